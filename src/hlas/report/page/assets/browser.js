// The utterance browser: controls, pages of rows, links to one utterance. It makes only the rows of one page, so that
// ten thousand utterances cost no more than twenty-five.

const PAGE_ROWS = 25;
const SYSTEMS_AT_FIRST = 4;
const PRINT_CHARACTERS = 60; // of a line of words: fits a sheet of A4

class UtteranceBrowser {
  constructor(data) {
    this.data = data;
    this.utterances = new Utterances(data);
    this.shown = data.systems.map((_, system) => system).slice(0, SYSTEMS_AT_FIRST);
    this.selected = [];
    this.first = 0; // place in `selected` of the page's first row
    this.found = -1; // utterance that a link opened
    this.printing = false;
  }

  start() {
    this.controls = document.getElementById("controls");
    this.list = document.getElementById("list");
    this.status = document.getElementById("status");
    document.getElementById("browser").hidden = false;
    this.fillControls();
    this.controls.addEventListener("input", (event) => this.changed(event.target));
    this.controls.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("lift").addEventListener("click", () => this.reset());
    for (const button of document.querySelectorAll("[data-page]")) {
      button.addEventListener("click", () => this.turn(Number(button.dataset.page)));
    }
    addEventListener("hashchange", () => this.openLinked());
    addEventListener("resize", () => requestAnimationFrame(() => this.render()));
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
    this.select();
    this.openLinked();
  }

  fillControls() {
    const {a, b, outcome, sort, group} = this.controls.elements;
    const systems = this.data.systems.map((name, system) => [system, name]);
    fillSelect(a, systems);
    fillSelect(b, systems);
    const several = systems.length > 1; // with one system nothing is asked of B
    const useful = ([key]) => several || !NEED_B.includes(key);
    b.closest("label").hidden = !several;
    fillSelect(outcome, Object.entries(OUTCOMES).filter(useful).map(([key, [label]]) => [key, label]));
    fillSelect(sort, Object.entries(SORTS).filter(useful));
    fillSelect(group, [[-1, "Any"], ...this.data.groups.map(({title}, index) => [index, title])]);
    this.fillValues();
    b.options[this.data.rival].defaultSelected = true; // what a reset goes back to
    const boxes = this.data.systems.map((name, system) => {
      const checked = this.shown.includes(system);
      return element("label", {}, element("input", {type: "checkbox", name: "shown", value: system, checked}), ` ${name}`);
    });
    document.getElementById("shown").append(...boxes);
  }

  /** The values of the chosen property, with how many utterances have each. */
  fillValues() {
    const {group, value} = this.controls.elements;
    const chosen = this.data.groups[Number(group.value)];
    const counts = chosen ? chosen.labels.map((_, index) => chosen.of.filter((of) => of === index).length) : [];
    const labels = chosen ? chosen.labels.map((label, index) => [index, `${label} (${counts[index]})`]) : [];
    fillSelect(value, [[-1, "All"], ...labels]);
    value.disabled = !chosen;
  }

  reset() {
    this.controls.reset();
    this.changed(null);
  }

  /** Follow a control, or all of them where `control` is null. */
  changed(control) {
    if (control === null || control.name === "group") this.fillValues();
    if (control === null || control.name === "shown") {
      const boxes = this.controls.querySelectorAll("input[name=shown]:checked");
      this.shown = Array.from(boxes, (box) => Number(box.value));
    }
    this.select();
  }

  select() {
    const form = this.controls.elements;
    this.a = Number(form.a.value);
    this.selected = this.utterances.select({
      a: this.a,
      b: Number(form.b.value),
      outcome: form.outcome.value,
      sort: form.sort.value,
      group: Number(form.group.value),
      value: Number(form.value.value),
      query: form.query.value,
    });
    this.first = 0;
    this.found = -1;
    this.render();
  }

  turn(step) {
    this.first = Math.max(0, Math.min(this.first + step * PAGE_ROWS, this.selected.length - 1));
    this.first -= this.first % PAGE_ROWS;
    this.render();
    document.getElementById("browser").scrollIntoView();
  }

  print(printing) {
    this.printing = printing;
    this.render();
  }

  /** Open the utterance that the address names (#u=NAME); filters that hide it are lifted. */
  openLinked() {
    if (!location.hash.startsWith("#u=")) return;
    const name = linkedName(location.hash);
    const index = this.utterances.find(name);
    if (index < 0) {
      this.status.textContent = `There is no utterance named ${name} on this page.`;
      return;
    }
    if (!this.selected.includes(index)) {
      this.reset();
    }
    const place = this.selected.indexOf(index);
    this.first = place - (place % PAGE_ROWS);
    this.found = index;
    this.render();
    const row = this.list.querySelector(".found");
    row.scrollIntoView({block: "center"});
    row.focus({preventScroll: true});
  }

  render() {
    const {selected, first} = this;
    const page = selected.slice(first, first + PAGE_ROWS);
    const budget = this.lineBudget(page);
    this.list.replaceChildren(...page.map((index) => this.row(index, budget)));
    const total = this.utterances.count;
    const range = selected.length ? `${first + 1} to ${first + page.length} of ` : "";
    const all = selected.length === total ? "" : ` (${total} in all)`;
    this.status.textContent = `${range}${selected.length} utterances${all}`;
    for (const button of document.querySelectorAll("[data-page]")) {
      const back = Number(button.dataset.page) < 0;
      button.disabled = back ? first === 0 : first + PAGE_ROWS >= selected.length;
    }
  }

  /** Characters that one line of words may take, from the width of the list and of the letters on this page. */
  lineBudget(page) {
    const text = page.map((index) => this.utterances.reference(index)).join(" ").slice(0, 200);
    if (this.printing || !text) return PRINT_CHARACTERS;
    const probe = element("table", {class: "words"}, element("tr", {class: "reference"}, element("th"), element("td", {}, text)));
    this.list.replaceChildren(element("li", {class: "hear"}, probe));
    const [label, sample] = Array.from(probe.querySelectorAll("th, td"), (cell) => cell.getBoundingClientRect().width);
    return Math.max(12, (this.list.clientWidth - label) / (sample / (text.length + CELL_PADDING)));
  }

  row(index, budget) {
    const {data, utterances} = this;
    const words = data.words[index];
    const errors = utterances.errors(this.a, index);
    const score = words ? `${errors} of ${words} words wrong` : "empty reference: counts in no rate";
    const facts = utterances.facts(index).map(([title, value]) => `${title} ${shortened(value)}`);
    const about = [`${data.seconds[index].toFixed(1)} s`, ...facts].join(" · ");
    const heading = element("h3", {}, score, " ", element("span", {class: "soft"}, `${data.name[index]} · ${about}`));
    const tools = element("div", {class: "tools"}, playButton(data, index), this.link(index));
    const found = index === this.found;
    const style = found ? "utterance found" : "utterance";
    const head = element("div", {class: "head"}, heading, tools);
    return element("li", {class: style, tabindex: found ? "-1" : null}, head, ...this.lines(index, budget));
  }

  /** Tables of words, one a line of text. */
  lines(index, budget) {
    const {utterances, data, shown} = this;
    const split = (text) => (text ? text.split(" ") : []);
    const systems = shown.map((system) => ({
      heard: split(utterances.heard(system, index)),
      script: utterances.script(system, index),
    }));
    const columns = gridColumns(split(utterances.reference(index)), systems);
    const direction = data.right_to_left[index] ? "rtl" : null;
    const attributes = {class: "scroll", lang: data.language || null, dir: direction};
    return gridLines(columns, budget).map((line) => {
      const reference = line.map((column) => element("td", {dir: "auto"}, column.reference));
      const rows = shown.map((system, place) => {
        const cells = line.map(({cells}) => wordCell(cells[place]));
        return element("tr", {}, systemHead(data.systems[system], utterances.errors(system, index)), ...cells);
      });
      const first = element("tr", {class: "reference"}, element("th", {scope: "row", lang: "en", dir: "ltr"}, "reference"), ...reference);
      return element("div", attributes, element("table", {class: "words"}, element("tbody", {}, first, ...rows)));
    });
  }

  /** A link to this utterance; a click copies its address. */
  link(index) {
    const hash = `#u=${encodeURIComponent(this.data.name[index])}`;
    const link = element("a", {href: hash, class: "copy"}, "Copy link");
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      history.replaceState(null, "", hash);
      try {
        await navigator.clipboard.writeText(location.href);
        link.textContent = "Link copied";
      } catch {
        link.textContent = "Link is in the address bar"; // the browser keeps pages off the clipboard
      }
    });
    return link;
  }
}

/** The name in "#u=NAME"; as it stands where it is not percent-encoded as it should be. */
function linkedName(hash) {
  try {
    return decodeURIComponent(hash.slice(3));
  } catch {
    return hash.slice(3);
  }
}

function systemHead(name, errors) {
  const note = errors ? ` ${errors} wrong` : " right";
  return element("th", {scope: "row", lang: "en", dir: "ltr", title: name}, name, element("span", {class: "hear"}, note));
}

/** A speaker's long hash by its beginning, as the tables have it; search finds it whole. */
function shortened(value) {
  return /^[0-9a-f]{32,}$/.test(value) ? value.slice(0, 8) : value;
}

const HEARD_AS = {substitute: "wrong", delete: "missing", insert: "too many"};

/** One word of one system; the kind of error is also there for a screen reader. */
function wordCell({text, edit}) {
  const cell = element("td", {class: edit, dir: "auto"}, text);
  if (HEARD_AS[edit]) cell.append(element("span", {class: "hear", lang: "en"}, ` (${HEARD_AS[edit]})`));
  return cell;
}
