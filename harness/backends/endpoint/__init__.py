"""Variants behind a server that speaks OpenAI's completions API: vLLM, SGLang, llama.cpp, ``transformers serve``."""
