// Sorting, filtering, search and copying. The page is complete without this; everything here only rearranges what is there.
"use strict";
(() => {
  // Tables: each header of the first row becomes a button; rows move within their own tbody.
  const value = (cell) => {
    if (!cell) return NaN;
    if (cell.dataset.order !== undefined) return Number(cell.dataset.order);
    const text = cell.textContent.trim().replace(/−/g, "-").replace(/[,\u202f\u00a0](?=\d)/g, "");
    return /^[-+]?\d/.test(text) ? parseFloat(text) : NaN;
  };
  const compare = (a, b, sense) => {
    const [x, y] = [value(a), value(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // without a number: last, both ways
    if (!Number.isNaN(x)) return sense * (x - y);
    return sense * (a ? a.textContent.trim() : "").localeCompare(b ? b.textContent.trim() : "", undefined, { numeric: true });
  };
  const sort = (table, column, sense) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      rows.sort((a, b) => compare(a.cells[column], b.cells[column], sense));
      body.append(...rows);
    }
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const sense = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", sense > 0 ? "ascending" : "descending");
        sort(table, column, sense);
      });
    });
  }

  // Dialogues: search, filters and order.
  const form = document.getElementById("filters");
  const list = document.getElementById("cards");
  if (form && list) {
    const cards = [...list.children].map((card) => ({
      card,
      number: Number(card.dataset.number),
      order: card.dataset.order === undefined ? -Infinity : Number(card.dataset.order),
      flags: card.dataset.flags ? card.dataset.flags.split(" ") : [],
      levels: card.dataset.levels ? card.dataset.levels.split(" ") : [],
      id: card.querySelector(".card-id").textContent,
      text: null,
    }));
    const field = (name) => document.getElementById(name);
    const chosen = (name) => (field(name) ? field(name).value : "");
    const orders = {
      worst: (a, b) => a.number - b.number,
      best: (a, b) => b.order - a.order || a.number - b.number,
      flags: (a, b) => b.flags.length - a.flags.length || a.number - b.number,
      id: (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }),
    };
    const flagged = (entry, flag, variant) => {
      if (flag === "") return true;
      return entry.flags.some((key) => {
        const [who, which] = key.split(":");
        return (flag === "*" || which === flag) && (variant === "" || who === variant);
      });
    };
    let order = "";
    const update = () => {
      const [needle, flag, variant, level] = [chosen("f-text").trim().toLowerCase(), chosen("f-flag"), chosen("f-variant"), chosen("f-level")];
      if (chosen("f-order") !== order) {
        order = chosen("f-order");
        cards.sort(orders[order]);
        list.append(...cards.map((entry) => entry.card));
      }
      let count = 0;
      for (const entry of cards) {
        if (needle && entry.text === null) entry.text = entry.card.textContent.toLowerCase();
        const shown = flagged(entry, flag, variant) && (level === "" || entry.levels.includes(level)) && (!needle || entry.text.includes(needle));
        entry.card.hidden = !shown;
        count += shown ? 1 : 0;
      }
      for (const reply of list.querySelectorAll(".reply")) reply.hidden = variant !== "" && reply.dataset.variant !== variant;
      field("f-count").textContent = `${count} of ${cards.length} dialogues match`;
    };
    let waiting = 0;
    form.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(update, 120);
    });
    form.addEventListener("change", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    const open = (state) => {
      for (const entry of cards) if (!entry.card.hidden) entry.card.open = state;
    };
    field("f-open").addEventListener("click", () => open(true));
    field("f-close").addEventListener("click", () => open(false));
    form.hidden = false;
    update();
  }

  // Copy buttons.
  for (const button of document.querySelectorAll("button.copy")) {
    const source = document.getElementById(button.dataset.copies);
    button.hidden = false;
    button.addEventListener("click", async () => {
      let done = false;
      try {
        await navigator.clipboard.writeText(source.textContent);
        done = true;
      } catch {
        const range = document.createRange(); // no clipboard here: select it, and try the old way
        range.selectNodeContents(source);
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
