"use strict";
(() => {
  const number = (text) => (/^[-+]?(\d|\.\d)/.test(text) ? parseFloat(text) : null);
  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };

  // ---- tables: sort, filter, copy
  function order(left, right) {
    if (left === "" || right === "") return left === right ? 0 : left === "" ? 1 : -1; // empty ones last, either way
    const numbers = [number(left), number(right)];
    if (numbers.includes(null)) return left.localeCompare(right, "en", { numeric: true });
    return numbers[0] - numbers[1];
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // Not every browser lets a page from a file use the clipboard; selected text can be copied in all.
    }
    const area = make("textarea", text);
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  }

  function enliven(place) {
    const table = place.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const say = place.querySelector("output");
    const texts = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent)]));
    heads.forEach((head, column) => {
      const values = rows.map((row) => texts.get(row)[column]).filter((text) => text !== "");
      const isNumber = values.length > 0 && values.every((text) => number(text) !== null);
      if (isNumber) [head, ...rows.map((row) => row.cells[column])].forEach((cell) => cell.classList.add("number"));
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === (isNumber ? "descending" : "ascending") ? isNumber : !isNumber;
        const sign = down ? 1 : -1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        const sorted = [...body.rows].sort((left, right) => {
          const [a, b] = [texts.get(left)[column], texts.get(right)[column]];
          return a === "" || b === "" ? order(a, b) : sign * order(a, b);
        });
        body.append(...sorted);
      });
    });
    place.querySelector("input").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => {
        const text = texts.get(row).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      });
      const left = rows.filter((row) => !row.hidden).length;
      say.textContent = words.length ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
    });
    place.querySelector(".copy").addEventListener("click", async () => {
      const shown = [...body.rows].filter((row) => !row.hidden).map((row) => texts.get(row));
      const lines = [heads.map((head) => head.textContent), ...shown].map((line) => line.join("\t"));
      try {
        await copy(lines.join("\n") + "\n");
        say.textContent = `${shown.length} rows copied`;
      } catch {
        say.textContent = "the browser refused to copy";
      }
    });
  }

  // ---- fixtures
  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  const isSplit = (fixture) => new Set(fixture.cells.map((one) => one.outcome).filter((one) => one !== null)).size > 1;

  // Runs of tokens that look the same become one element: long prompts have many tokens.
  function paint(view, shares) {
    const text = make("div", undefined, "text");
    const evidence = new Set(view.evidence);
    const letters = view.prompt;
    let start = 0, end = 0, last = null;
    const flush = () => {
      if (end === start) return;
      const span = make("span", letters.slice(start, end));
      span.style.setProperty("--share", ((last.level / 8) * 0.75).toFixed(2));
      if (last.isEvidence) span.classList.add("evidence");
      if (!last.level) span.classList.add("gone");
      text.append(span);
      start = end;
    };
    view.lengths.forEach((length, token) => {
      const now = { level: Math.ceil((shares[token] / 255) * 8), isEvidence: evidence.has(token) };
      const asks = token === view.question && token > 0;
      if (last && (asks || now.level !== last.level || now.isEvidence !== last.isEvidence)) flush();
      if (asks) text.append(make("span", "the question", "question"));
      last = now;
      end += length;
    });
    flush();
    if (end < letters.length) text.append(letters.slice(end));
    return text;
  }

  function viewer(place) {
    const data = JSON.parse(document.getElementById(place.dataset.source).textContent);
    const find = (name) => place.querySelector(`.${name}`);
    const [pick, back, next, split] = ["pick", "back", "next", "split"].map(find);
    let fixtures = data.fixtures;
    let chosen = null; // indices of the cells whose kept positions are shown

    function list() {
      fixtures = data.fixtures.filter((fixture) => !split.checked || isSplit(fixture));
      pick.replaceChildren(
        ...fixtures.map((fixture, index) => {
          if (data.columns) {
            const option = make("option", fixture.id);
            option.value = String(index);
            return option;
          }
          const done = fixture.cells.filter((one) => one.outcome !== null);
          const hits = done.filter((one) => one.outcome === 1).length;
          const option = make("option", `${fixture.id}: ${hits} of ${done.length} hits${fixture.view ? "" : ", no prompt"}`);
          option.value = String(index);
          return option;
        }),
      );
      show();
    }

    async function prompts(fixture) {
      const area = find("prompts");
      if (!fixture.view) {
        area.replaceChildren();
        return;
      }
      const indices = Object.keys(fixture.view.kept).map(Number);
      if (!chosen || !chosen.every((index) => indices.includes(index))) {
        const seen = fixture.cells.filter((one) => indices.includes(one.cell) && !data.cells[one.cell].isReference);
        const most = (outcome) => seen.filter((one) => (one.outcome === 1) === outcome)
          .sort((left, right) => (right.evidence ?? 0) - (left.evidence ?? 0))[0];
        const pair = [most(true), most(false)].filter(Boolean).map((one) => one.cell);
        chosen = [pair[0] ?? indices[0], pair[1] ?? pair[0] ?? indices[0]];
      }
      const panes = await Promise.all(
        chosen.map(async (index, side) => {
          const pane = make("div", undefined, "prompt");
          const head = make("h4");
          const select = make("select");
          select.setAttribute("aria-label", `Cell shown in pane ${side + 1}`);
          for (const one of indices) {
            const option = make("option", data.cells[one].label);
            option.value = String(one);
            option.selected = one === index;
            select.append(option);
          }
          select.addEventListener("change", () => {
            chosen[side] = Number(select.value);
            show();
          });
          const key = make("span", "", "quiet");
          key.append("share of layers and heads that kept it ", make("span", "", "scale"), "; outlined: evidence");
          head.append(select, verdict(fixture.cells.find((one) => one.cell === index)), key);
          pane.append(head, paint(fixture.view, await inflate(fixture.view.kept[index])));
          return pane;
        }),
      );
      if (fixture !== fixtures[Number(pick.value)]) return; // another one was picked meanwhile
      area.replaceChildren(...panes);
      for (const text of area.querySelectorAll(".text")) {
        const place = text.querySelector(".evidence");
        if (place) text.scrollTop = place.offsetTop - text.offsetTop - text.clientHeight / 3;
      }
    }

    function verdict(one) {
      if (!one) return make("span", "not measured", "quiet");
      if (one.outcome === null) return make("span", "error", "failed");
      if (data.columns) return make("span", `${(100 * one.outcome).toFixed(1)} %`);
      if (one.outcome === 1) return make("span", "hit", "hit");
      return make("span", one.outcome === 0 ? "miss" : one.outcome.toPrecision(3), "miss");
    }

    function measure(name, value) {
      if (value === null) return "";
      return name === "kept" ? value.toFixed(1) : `${(100 * value).toFixed(0)} %`;
    }

    function table(fixture) {
      const head = make("tr");
      const has = (name) => fixture.cells.some((one) => one[name] !== null);
      const known = [["kept", "kept tokens"], ["evidence", "evidence kept"]].filter(([name]) => has(name));
      const said = fixture.cells.some((one) => one.completion || one.error) || !data.columns ? ["completion"] : [];
      const words = data.columns ? ["cell", "token hit", ...said] : ["cell", "outcome", "completion", "graded"];
      for (const name of words) head.append(make("th", name));
      for (const name of data.columns ?? known.map(([, name]) => name)) head.append(make("th", name, "number"));
      [...head.cells].forEach((cell) => (cell.style.padding = ".4rem .6rem"));
      const rows = fixture.cells.map((one) => {
        const row = make("tr", undefined, fixture.view && chosen?.includes(one.cell) ? "chosen" : "");
        const outcome = make("td");
        outcome.append(verdict(one));
        const more = one.more ? ` [${one.more} more characters]` : "";
        row.append(
          make("td", data.cells[one.cell].label),
          outcome,
          ...(said.length ? [make("td", one.error ?? one.completion + more, "said")] : []),
          ...(data.columns ? [] : [make("td", one.graded, "said")]),
          ...known.map(([name]) => make("td", measure(name, one[name]), "number")),
          ...(data.columns ?? []).map((_, place) => make("td", String(one.values?.[place] ?? ""), "number")),
        );
        return row;
      });
      const [top, body] = [make("thead"), make("tbody")];
      top.append(head);
      body.append(...rows);
      find("graded").replaceChildren(top, body);
    }

    async function show() {
      const index = Number(pick.value);
      const fixture = fixtures[index];
      back.disabled = !fixture || index === 0;
      next.disabled = !fixture || index === fixtures.length - 1;
      const accepted = fixture?.answers.length ? `Accepted: ${fixture.answers.join(" | ")}` : "";
      find("answers").textContent = fixture ? accepted : "The cells agree on every fixture here.";
      if (!fixture) {
        find("prompts").replaceChildren();
        find("graded").replaceChildren();
        return;
      }
      await prompts(fixture);
      table(fixture);
    }

    const step = (by) => {
      pick.value = String(Number(pick.value) + by);
      show();
    };
    pick.addEventListener("change", show);
    back.addEventListener("click", () => step(-1));
    next.addEventListener("click", () => step(1));
    split.addEventListener("change", list);
    list();
  }

  document.querySelectorAll(".table").forEach(enliven);
  document.querySelectorAll(".viewer").forEach(viewer);
})();
