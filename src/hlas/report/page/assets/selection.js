// Which utterances are shown and in which order: plain work on the columns that Python wrote, without the document.

const OUTCOMES = {
  all: ["All utterances", () => true],
  wrong: ["A is wrong", (a) => a > 0],
  right: ["A is right", (a) => a === 0],
  gained: ["A is right, B is wrong", (a, b) => a === 0 && b > 0],
  lost: ["A is wrong, B is right", (a, b) => a > 0 && b === 0],
  both: ["Both are wrong", (a, b) => a > 0 && b > 0],
};

const SORTS = {
  worst: "Most errors of A first",
  rate: "Highest WER of A first",
  lost: "Where A loses most to B first",
  gained: "Where A gains most on B first",
  longest: "Longest first",
  shortest: "Shortest first",
  name: "By name",
};

const NEED_B = ["gained", "lost", "both"]; // outcomes and sorts that compare two systems

/** The utterances as columns; an index names one in all of them. See browser_data.py for the fields. */
class Utterances {
  constructor(data) {
    this.data = data;
    this.count = data.name.length;
    this.haystack = null;
  }

  reference(index) {
    return this.data.reference[index];
  }

  /** What a system heard; the data holds 0 where that is the reference itself. */
  heard(system, index) {
    const text = this.data.heard[system][index];
    return text === 0 ? this.reference(index) : text;
  }

  errors(system, index) {
    return this.data.errors[system][index];
  }

  /** The edit script from the reference to what the system heard. */
  script(system, index) {
    const script = this.data.edits[system][index];
    return script === 0 ? `${this.data.words[index]}=` : script;
  }

  /** Facts of the speaker and the like that are known: [title, value]. */
  facts(index) {
    return this.data.facts
      .filter(({of}) => of[index] >= 0)
      .map(({title, values, of}) => [title, values[of[index]]]);
  }

  find(name) {
    return this.data.name.indexOf(name);
  }

  /** Lower-case text of each utterance, joined once and then kept: made at the first search. */
  searchable() {
    this.haystack ??= Array.from({length: this.count}, (_, index) => {
      const heard = this.data.heard.map((column) => column[index]).filter((text) => text !== 0);
      const facts = this.facts(index).map(([, value]) => value);
      return [this.data.name[index], this.reference(index), ...heard, ...facts].join("\n").toLowerCase();
    });
    return this.haystack;
  }

  /** Indices of the utterances that pass every filter, sorted. `group` and `value` are indices, -1 = any. */
  select({a, b, outcome, sort, group, value, query}) {
    const passes = OUTCOMES[outcome][1];
    const of = group >= 0 && value >= 0 ? this.data.groups[group].of : null;
    const words = query.normalize("NFC").toLowerCase().trim();
    const texts = words ? this.searchable() : null;
    const kept = [];
    for (let index = 0; index < this.count; index++) {
      if (of && of[index] !== value) continue;
      if (!passes(this.errors(a, index), this.errors(b, index))) continue;
      if (texts && !texts[index].includes(words)) continue;
      kept.push(index);
    }
    return kept.sort(this.comparer(sort, a, b));
  }

  /** Ties keep the data's own order, in which the best system's worst utterances come first. */
  comparer(sort, a, b) {
    const {words, seconds, name} = this.data;
    const key = {
      worst: (index) => -this.errors(a, index),
      rate: (index) => -(words[index] ? this.errors(a, index) / words[index] : 0),
      lost: (index) => this.errors(b, index) - this.errors(a, index),
      gained: (index) => this.errors(a, index) - this.errors(b, index),
      longest: (index) => -seconds[index],
      shortest: (index) => seconds[index],
    }[sort];
    if (key) return (i, j) => key(i) - key(j) || i - j;
    return (i, j) => (name[i] < name[j] ? -1 : name[i] > name[j] ? 1 : i - j);
  }
}
