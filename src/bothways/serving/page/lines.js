// A file of lines → a table of answers, a few lines at a time.
import { ask, pause } from "./api.js";
import { batch, html, percent, signal } from "./dom.js";
import { first, model, mostTexts, pair, t, text, view } from "./state.js";

const MOST_LINES = 10000;
const SHOWN = 100;
const rows = signal([]); // {texts, answer or error}
const all = signal(0);
const cut = signal(false);
const shownRows = signal(SHOWN);
const name = signal("");
let running = new AbortController();

export async function openFile(file) {
  if (!file) return;
  const content = await file.text();
  const each = model(first.value);
  const lines = content.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim());
  running.abort();
  running = new AbortController();
  batch(() => {
    view.value = "lines";
    [rows.value, all.value, cut.value, shownRows.value, name.value] = [[], Math.min(lines.length, MOST_LINES), lines.length > MOST_LINES, SHOWN, file.name];
  });
  await classify(each, lines.slice(0, MOST_LINES).map((line) => textsOf(each, line)), running.signal);
}

const textsOf = (each, line) => {
  if (each.reads.length === 1) return [line];
  const [one, ...others] = line.split("\t");
  return [one, others.join("\t")];
};

async function classify(each, given, signal) {
  for (let at = 0; at < given.length && !signal.aborted; at += mostTexts.value) {
    const some = given.slice(at, at + mostTexts.value);
    const answered = await answersTo(each, some, signal);
    if (!signal.aborted) rows.value = [...rows.value, ...answered];
  }
}

// What is said of some lines; if they are refused together, each alone, so that only the one fails that cannot be read.
async function answersTo(each, some, signal) {
  try {
    const found = await ask("/answers", { model: each.name, inputs: some }, signal);
    return some.map((texts, i) => ({ texts, answer: found.answers[i] }));
  } catch (error) {
    if (error.name === "AbortError") return [];
    if (error.status === 429) {
      await pause(error.wait);
      return signal.aborted ? [] : answersTo(each, some, signal);
    }
    if (some.length === 1 || error.status === 401) return some.map((texts) => ({ texts, error: error.message }));
    const alone = [];
    for (const texts of some) alone.push(...(await answersTo(each, [texts], signal)));
    return alone;
  }
}

// What a row says of one output, and how sure that is.
function said(answer, output) {
  const found = answer.outputs[output.name];
  if ("value" in found) return [found.value.toFixed(3), ""];
  const label = found.known === false ? t("known.no") : Array.isArray(found.scores) ? found.labels.map((tag) => tag ?? "?").join(" ") : (found.label ?? found.labels.join(" · "));
  return [label, found.score === undefined ? "" : percent(found.score)];
}

export function Lines() {
  const each = model(first.value);
  const onDone = all.value > 0 && rows.value.length === all.value;
  return html`<section class="lines">
    <p class="open">
      <label class="button">${t("lines.open")}<input type="file" accept=".txt,.tsv,.csv,text/plain" onChange=${(event) => openFile(event.target.files[0])} /></label>
      <span class="note">${t("lines.sample")}</span>
    </p>
    <p class="note">${t("lines.drop")} ${cut.value && t("lines.many", { n: MOST_LINES })}</p>
    ${all.value > 0 &&
    html`<p class="open" aria-live="polite">
        <progress max=${all.value} value=${rows.value.length} aria-label=${t("view.lines")}></progress>
        <span>${t("lines.done", { done: rows.value.length, all: all.value })}</span>
        ${!onDone && html`<button class="plain" onClick=${() => running.abort()}>${t("lines.stop")}</button>`}
        ${rows.value.length > 0 && html`<button class="plain" onClick=${() => save(each)}>${t("lines.save")}</button>`}
      </p>
      <div class="scroll" tabindex="0">
        <table>
          <thead><tr><th scope="col">${t("lines.line")}</th>${each.outputs.map((output) => html`<th scope="col" class="left">${output.name}</th><th></th>`)}<th scope="col" class="left">${t("text")}</th></tr></thead>
          <tbody>${rows.value.slice(0, shownRows.value).map((row, i) => html`<${Row} key=${i} row=${row} number=${i + 1} outputs=${each.outputs} />`)}</tbody>
        </table>
      </div>
      ${rows.value.length > shownRows.value && html`<button class="plain" onClick=${() => (shownRows.value += SHOWN)}>${t("lines.more", { n: Math.min(SHOWN, rows.value.length - shownRows.value) })}</button>`}`}
  </section>`;
}

function Row({ row, number, outputs }) {
  const look = () => batch(() => (([text.value, pair.value] = [row.texts[0], row.texts[1] ?? ""]), (view.value = "text")));
  const cells = row.answer
    ? outputs.map((output) => said(row.answer, output).map((cell, i) => html`<td class=${i ? "soft" : "left"}>${cell}</td>`))
    : html`<td class="left error" colspan=${2 * outputs.length} title=${row.error}>${t("lines.failed")}</td>`;
  return html`<tr><td class="soft">${number}</td>${cells}<td class="left text"><button class="plain" onClick=${look}>${row.texts.join(" ⇥ ")}</button></td></tr>`;
}

function save(each) {
  const quoted = (cell) => `"${(/^[=+\-@\t\r]/.test(cell) ? "'" : "") + String(cell).replaceAll('"', '""')}"`; // no cell is a formula
  const header = [...each.reads, ...each.outputs.flatMap((output) => [output.name, `${output.name}.score`]), "error"];
  const table = rows.value.map((row) => [...row.texts, ...each.outputs.flatMap((output) => (row.answer ? said(row.answer, output) : ["", ""])), row.error ?? ""]);
  const content = [header, ...table].map((cells) => cells.map(quoted).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", content], { type: "text/csv" }));
  link.download = `${name.value.replace(/\.\w+$/, "")}.answers.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
