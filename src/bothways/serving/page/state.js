// All that the page knows; the part that a link should hold is in the address, after the #.
import { ask, hasKey, latest } from "./api.js";
import { batch, computed, effect, signal } from "./dom.js";
import words from "./words.js";

const LONGEST_IN_LINK = 4000;
const ANSWER_PAUSE = 30, EXPLAIN_PAUSE = 220; // milliseconds after the last key

export const VIEWS = ["text", "lines", "evaluation", "game", "flow"];

export const language = signal("en");
export const view = signal("text");
export const text = signal("");
export const pair = signal("");
export const first = signal("");
export const second = signal("");
export const output = signal(""); // of the evaluation
// Classes by their index: labels may be shortened, and then alike.
export const focus = signal(-1); // the class whose confusions are shown; -1: none
export const cell = signal(null); // {expected, predicted}: the cell that is open

export const models = signal([]);
export const mostTexts = signal(32);
export const failure = signal("");
export const answers = signal({}); // by model
export const before = signal({}); // answers before a word was changed, by model
export const explanations = signal({}); // by model
export const explained = signal({}); // {output, label} that were asked for, by model
export const undoes = signal([]); // texts before words were changed

export const t = (key, values = {}) =>
  words[language.value][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

export const model = (name) => models.value.find((each) => each.name === name);
export const shown = computed(() => [first.value, second.value].filter((name, i, all) => name && all.indexOf(name) === i).map(model).filter(Boolean));
export const readsPairs = computed(() => shown.value.some((each) => each.reads.length === 2));

export const bodyFor = (each, more = {}) => ({
  model: each.name,
  inputs: each.reads.length === 2 ? [text.value, pair.value] : text.value,
  ...more,
});
const ready = (each) => text.value.trim() && (each.reads.length === 1 || pair.value.trim());
const with_ = (signal, name, value) => (signal.value = { ...signal.value, [name]: value });

async function safely(work) {
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") failure.value = error.message;
  }
}

// A text that the server cannot read as JSON would be half of a character: it is written whole.
const askAnswers = latest(ANSWER_PAUSE, (signal, asked) =>
  asked.forEach((each) =>
    safely(async () => {
      const found = await ask("/answers", bodyFor(each), signal);
      batch(() => {
        failure.value = "";
        with_(answers, each.name, found.answers[0]);
      });
    }),
  ),
);

const askExplanations = latest(EXPLAIN_PAUSE, (signal, asked) =>
  asked.forEach((each) =>
    safely(async () => with_(explanations, each.name, await ask("/explain", bodyFor(each, explained.value[each.name]), signal))),
  ),
);

export function follow() {
  effect(() => {
    const asked = view.value === "text" || view.value === "flow" ? shown.value.filter((each) => each.outputs.length && ready(each)) : [];
    if (!text.value.trim()) batch(() => ((answers.value = {}), (explanations.value = {}), (before.value = {}), (failure.value = "")));
    askAnswers(asked);
    if (view.value === "text") {
      explained.value; // asks again when another label is chosen
      askExplanations(asked);
    }
  });
  effect(() => {
    const held = new URLSearchParams();
    const entries = { t: text.value, p: readsPairs.value ? pair.value : "", m: first.value, with: second.value, v: view.value, l: language.value };
    if (view.value === "evaluation") Object.assign(entries, { o: output.value, c: focus.value < 0 ? "" : `${focus.value}`, ...(cell.value && { x: `${cell.value.expected}`, y: `${cell.value.predicted}` }) });
    const usual = { m: models.value[0]?.name, v: "text" };
    for (const [name, value] of Object.entries(entries))
      if (value && value !== usual[name] && value.length <= LONGEST_IN_LINK) held.set(name, value);
    if (models.value.length) history.replaceState(null, "", `#${held}`);
    document.documentElement.lang = language.value === "zh" ? "zh-Hans" : "en";
  });
  addEventListener("hashchange", () => readLink());
}

export function readLink() {
  const held = new URLSearchParams(location.hash.slice(1));
  const names = models.value.map((each) => each.name);
  const known = (name) => (names.includes(name) ? name : "");
  batch(() => {
    language.value = held.get("l") in words ? held.get("l") : navigator.language.startsWith("zh") ? "zh" : "en";
    view.value = VIEWS.includes(held.get("v")) ? held.get("v") : models.value.every((each) => !each.outputs.length) && models.value.some((each) => each.masked) ? "game" : "text";
    text.value = held.get("t") ?? "";
    pair.value = held.get("p") ?? "";
    first.value = known(held.get("m")) || (models.value.find((each) => each.outputs.length) ?? models.value[0])?.name || "";
    second.value = known(held.get("with"));
    const [focused, expected, predicted] = ["c", "x", "y"].map((name) => (/^\d{1,6}$/.test(held.get(name)) ? Number(held.get(name)) : -1));
    [output.value, focus.value] = [held.get("o") ?? "", focused];
    cell.value = expected >= 0 && predicted >= 0 ? { expected, predicted } : null;
  });
}

// Another model: a class stays chosen only where its index means the same.
export function chooseFirst(name) {
  const labels = (each) => JSON.stringify(model(each)?.outputs.map((one) => [one.name, one.labels]));
  batch(() => {
    if (labels(name) !== labels(first.value)) [focus.value, cell.value] = [-1, null];
    first.value = name;
  });
}

export const load = () =>
  safely(async () => {
    const found = await ask("/models");
    batch(() => {
      [models.value, mostTexts.value, failure.value] = [found.models, found.most_texts, ""];
      readLink(); // before the address is written anew
    });
  });

export const linksToReports = () => !hasKey(); // a link cannot carry the key

// Typing: what was compared with is past.
export const type = (signal, value) => batch(() => ((signal.value = value), (before.value = {}), (undoes.value = [])));

// Changing a word: the bars remember where they were.
export function change(of, value) {
  const signal = of === "pair" ? pair : text;
  batch(() => {
    if (!undoes.value.length) before.value = answers.value;
    undoes.value = [...undoes.value, [text.value, pair.value]];
    signal.value = value;
  });
}

export function undo() {
  const [last, ...rest] = undoes.value.slice().reverse();
  batch(() => {
    [text.value, pair.value] = last;
    undoes.value = rest.reverse();
    if (!undoes.value.length) before.value = {};
  });
}
