// How good a model is: the confusion matrix of its evaluation, the texts of a cell, and what the report says in words.
import { ask, latest } from "./api.js";
import { batch, html, percent, signal, useEffect, useRef, useState } from "./dom.js";
import { cell, focus, first, language, linksToReports, model, output, pair, t, text, type, view } from "./state.js";

const MOST_CLASSES = 12, CHOSEN_CLASSES = 10; // of more than the first, so many that are most confused
const FEW = 4; // have room for large cells
const SHOWN = 10;
const found = signal(null); // {of, outputs, evaluated_on, rows, error}

const look = latest(0, async (signal, each) => {
  try {
    found.value = { of: each, ...(await ask(`/models/${encodeURIComponent(each.name)}/evaluation`, undefined, signal)) };
  } catch (error) {
    if (error.name !== "AbortError") found.value = { of: each, error: error.message };
  }
});

const both = (words) => words[language.value];
const sentences = (...some) => some.filter(Boolean).join(language.value === "zh" ? "" : " ");
const whole = (number) => number.toLocaleString("en");
const isMany = (shown) => shown.labels.length > MOST_CLASSES;
const touches = (one, focused) => focused < 0 || one.expected === focused || one.predicted === focused;
const known = (shown, i) => (i < shown.labels.length ? i : -1); // a link may name any class
const isRight = (one) => one.expected === one.predicted;
let byHand = false; // what a link opens does not scroll away from the matrix
const choose = (expected, predicted) => {
  byHand = true;
  cell.value = { expected, predicted };
};

export function Evaluation() {
  const each = model(first.value);
  useEffect(() => void (each.evaluation && look(each)), [each]);
  const report = each.report && linksToReports() && html`<a href=${`/models/${encodeURIComponent(each.name)}/report`} target="_blank" rel="noopener">${t("report")}</a>`;
  if (!each.evaluation) return html`<p class="note">${t(each.outputs.length ? "evaluation.none" : "encoder")} ${report}</p>`;
  const told = found.value;
  if (told?.of !== each) return html`<p class="note">…</p>`;
  if (told.error) return html`<p class="failure" role="alert">${told.error}</p>`;
  if (!told.outputs.length) return html`<p class="note">${t("evaluation.empty")}</p>`;
  const shown = told.outputs.find((one) => one.name === output.value) ?? told.outputs[0];
  return html`<section class="evaluation">
    ${told.outputs.length > 1 && html`<${Outputs} outputs=${told.outputs} shown=${shown} />`}
    <p class="lead">${both(shown.sentence)}</p>
    <p class="note">${sentences(told.evaluated_on && t("evaluation.on", { table: told.evaluated_on }), told.all_rows > told.rows && t("evaluation.sample", { n: whole(told.rows), all: whole(told.all_rows) }), told.outputs_left_out > 0 && t("evaluation.left", { n: whole(told.outputs_left_out) }), ...shown.notes.map(both))} ${report}</p>
    <${Shown} key=${`${each.name}/${shown.name}`} shown=${shown} />
  </section>`;
}

function Outputs({ outputs, shown }) {
  const change = (event) => batch(() => ((output.value = event.target.value), (cell.value = null), (focus.value = -1)));
  return html`<p class="choices"><label>${t("output")} <select value=${shown.name} onChange=${change}>${outputs.map((one) => html`<option key=${one.name}>${one.name}</option>`)}</select></label></p>`;
}

function Shown({ shown }) {
  const [at, other] = opened(shown);
  const open = at >= 0 && other >= 0;
  const grids = shown.grids.map((grid, i) => html`<${Grid} key=${i} grid=${grid} />`);
  const matrix = shown.labels.length > 0;
  return html`<div class="beside">
      ${matrix ? html`<${Confusion} shown=${shown} at=${open ? [at, other] : null} />` : grids}
      ${open ? html`<${Cell} key=${`${at}/${other}`} shown=${shown} expected=${at} predicted=${other} />` : html`<${Mistakes} shown=${shown} />`}
      ${matrix && grids}
    </div>`;
}

// The cell that was chosen, or of a class that was chosen the one with most errors.
function opened(shown) {
  if (cell.value) return [cell.value.expected, cell.value.predicted].map((i) => known(shown, i));
  const focused = known(shown, focus.value);
  const one = focused >= 0 && isMany(shown) && shown.cells.find((each) => !isRight(each) && touches(each, focused));
  return one ? [one.expected, one.predicted] : [-1, -1];
}

function Confusion({ shown, at }) {
  const many = isMany(shown);
  const focused = many ? known(shown, focus.value) : -1;
  const change = (event) => batch(() => ((focus.value = Number(event.target.value)), (cell.value = null)));
  return html`<figure>
    <figcaption>${t("matrix")}</figcaption>
    ${many && html`<p class="choices"><label>${t("matrix.class")} <select value=${focused} onChange=${change}><option value="-1">${t("matrix.most", { n: shown.labels.length })}</option>${shown.labels.map((label, i) => html`<option key=${i} value=${i}>${label}</option>`)}</select></label></p>`}
    <${Matrix} shown=${shown} classes=${classesOf(shown, focused)} at=${at} many=${many} />
    <p class="note">${t("matrix.note")}</p>
    ${many && html`<${Pairs} shown=${shown} focused=${focused} at=${at} />`}
  </figure>`;
}

// All classes, or of many a class and those it is confused with, or those that are most confused.
function classesOf(shown, focused) {
  if (!isMany(shown)) return shown.labels.map((_, i) => i);
  const chosen = new Set(focused < 0 ? [] : [focused]);
  for (const one of shown.cells) {
    const fresh = [one.expected, one.predicted].filter((i) => !chosen.has(i));
    if (touches(one, focused) && !isRight(one) && chosen.size + fresh.length <= CHOSEN_CLASSES) fresh.forEach((i) => chosen.add(i));
  }
  if (!chosen.size) shown.labels.slice(0, CHOSEN_CLASSES).forEach((_, i) => chosen.add(i));
  return [...chosen];
}

// Arrow keys go from cell to cell; one of them can be reached by Tab.
function Matrix({ shown, classes, at, many }) {
  const table = useRef(null);
  const [reached, reach] = useState(null);
  const count = new Map(shown.cells.map((one) => [`${one.expected}/${one.predicted}`, one.count]));
  const size = classes.length;
  const start = (reached ?? at?.map((each) => classes.indexOf(each)) ?? [0, 0]).map((i) => Math.max(0, Math.min(i, size - 1)));
  const go = (row, column) => {
    const to = [row, column].map((i) => Math.max(0, Math.min(i, size - 1)));
    reach(to);
    table.current.querySelectorAll("td button")[to[0] * size + to[1]].focus();
  };
  const onKey = (event) => {
    const [row, column] = start;
    const to = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], Home: [row, 0], End: [row, size - 1] }[event.key];
    if (event.key === "Escape") cell.value = null;
    if (!to || event.altKey || event.ctrlKey || event.metaKey || !event.target.closest("td")) return;
    event.preventDefault();
    go(...to);
  };
  return html`<div class="scroll"><table class=${shown.labels.length > FEW ? `matrix${many ? " many" : ""}` : "matrix few"} ref=${table} onKeyDown=${onKey}>
    <thead><tr><td class="corner"><span>${t("matrix.expected")}</span> <span>${t("matrix.predicted")}</span></td>${classes.map((j) => html`<th key=${j} scope="col" title=${shown.labels[j]}><span dir="auto">${shown.labels[j]}</span></th>`)}${many && html`<th scope="col"><span>${t("matrix.others")}</span></th>`}<th scope="col"><span>${t("matrix.all")}</span></th></tr></thead>
    <tbody>${classes.map((i, row) => {
      const counts = classes.map((j) => count.get(`${i}/${j}`) ?? 0);
      return html`<tr key=${i}>
        <th scope="row" title=${shown.labels[i]}>${many ? html`<button class="plain" onClick=${() => batch(() => ((focus.value = i), (cell.value = null)))}>${shown.labels[i]}</button>` : html`<span dir="auto">${shown.labels[i]}</span>`}</th>
        ${classes.map((j, column) => html`<${Count} key=${j} shown=${shown} i=${i} j=${j} count=${counts[column]} open=${at?.[0] === i && at?.[1] === j} inTurn=${start[0] === row && start[1] === column} reach=${() => reach([row, column])} />`)}
        ${many && html`<td class="soft">${whole(shown.totals[i] - counts.reduce((sum, each) => sum + each, 0))}</td>`}
        <td class="soft">${whole(shown.totals[i])}</td>
      </tr>`;
    })}</tbody>
  </table></div>`;
}

function Count({ shown, i, j, count, open, inTurn, reach }) {
  const share = shown.totals[i] ? count / shown.totals[i] : 0;
  const told = t("matrix.cell", { expected: shown.labels[i], predicted: shown.labels[j], n: whole(count), all: whole(shown.totals[i]), p: percent(share) });
  const look = () => {
    reach();
    open ? (cell.value = null) : choose(i, j);
  };
  return html`<td class=${`${i === j ? "right" : "wrong"}${count ? "" : " none"}`} style=${{ "--share": (i === j ? share : Math.sqrt(share)).toFixed(3) }}><button tabindex=${inTurn ? 0 : -1} aria-pressed=${open} aria-label=${told} title=${told} onClick=${look}>${whole(count)}</button></td>`;
}

function Pairs({ shown, focused, at }) {
  const [most, setMost] = useState(SHOWN);
  const wrong = shown.cells.filter((one) => !isRight(one) && touches(one, focused));
  if (!wrong.length) return html`<p class="note">${t("pairs.none")}</p>`;
  return html`<h3>${t("pairs")}</h3>
    <ul class="pairs">${wrong.slice(0, most).map((one) => html`<li key=${`${one.expected}/${one.predicted}`}><button class="plain" aria-pressed=${at?.[0] === one.expected && at?.[1] === one.predicted} onClick=${() => choose(one.expected, one.predicted)}><span dir="auto">${shown.labels[one.expected]}</span> → <span dir="auto">${shown.labels[one.predicted]}</span></button> <small>${whole(one.count)} / ${whole(shown.totals[one.expected])}</small></li>`)}</ul>
    ${wrong.length > most && html`<button class="plain" onClick=${() => setMost(most + 4 * SHOWN)}>${t("more", { n: wrong.length - most })}</button>`}`;
}

// The texts of a cell.
function Cell({ shown, expected, predicted }) {
  const place = useRef(null);
  const [most, setMost] = useState(SHOWN);
  useEffect(() => {
    if (byHand && place.current.getBoundingClientRect().top > innerHeight - 120) place.current.scrollIntoView();
    byHand = false;
  }, []);
  const one = shown.cells.find((each) => each.expected === expected && each.predicted === predicted) ?? { expected, predicted, count: 0, texts: [] };
  const all = shown.totals[expected];
  const [truth, said] = [shown.labels[expected], shown.labels[predicted]];
  const scores = (each) => (isRight(one) ? [[said, each.score]] : [[said, each.score], [truth, each.expected_score]]);
  return html`<div class="texts" ref=${place} aria-live="polite">
    <h3>${isRight(one) ? t("cell.right", { label: truth }) : html`<span class="truth" dir="auto">${truth}</span> → <span class="said" dir="auto">${said}</span>`} <button class="plain" onClick=${() => (cell.value = null)}>${t("close")}</button></h3>
    <p class="note">${sentences(t("cell.count", { n: whole(one.count), all: whole(all), label: truth, p: percent(all ? one.count / all : 0) }), one.count > 1 && t(isRight(one) ? "cell.least" : "cell.surest"))}</p>
    <ol>${one.texts.slice(0, most).map((each, i) => html`<${Text} key=${i} each=${each}>${scores(each).map(([label, score], k) => score !== null && html`<span key=${k}>${label} ${percent(score)}</span>`)}<//>`)}</ol>
    ${one.texts.length > most && html`<button class="plain" onClick=${() => setMost(one.texts.length)}>${t("texts.more", { n: one.texts.length - most })}</button>`}
    ${one.texts.length <= most && one.count > one.texts.length && html`<p class="note">${t("cell.more", { n: whole(one.count - one.texts.length) })}</p>`}
  </div>`;
}

function Mistakes({ shown }) {
  const [most, setMost] = useState(SHOWN);
  if (!shown.mistakes.length) return null;
  return html`<div class="texts"><h3>${t(shown.grids.length ? "mistakes" : "mistakes.largest")}</h3>
    <p class="note">${t("mistakes.note")}</p>
    <ol>${shown.mistakes.slice(0, most).map((each, i) => html`<${Text} key=${i} each=${each}><span><b class="truth" dir="auto">${each.expected}</b> → <b class="said" dir="auto">${each.predicted}</b> ${shown.grids.length ? each.score : t("mistakes.off", { n: each.score })}</span><//>`)}</ol>
    ${shown.mistakes.length > most && html`<button class="plain" onClick=${() => setMost(shown.mistakes.length)}>${t("texts.more", { n: shown.mistakes.length - most })}</button>`}</div>`;
}

// A text that opens where the model is asked about it.
function Text({ each, children }) {
  const open = () => batch(() => (type(text, each.texts[0]), type(pair, each.texts[1] ?? ""), (view.value = "text"), scrollTo(0, 0)));
  return html`<li><button class="plain" title=${t("cell.open")} dir="auto" onClick=${open}>${each.texts.join(" ‖ ")}${each.truncated && "…"}</button><small>${both(each.row)} ${children}${each.truncated && html` <span>${t("cell.cut")}</span>`}</small></li>`;
}

function Grid({ grid }) {
  const [most, setMost] = useState(2 * SHOWN);
  return html`<figure>
    <figcaption>${both(grid.caption)}</figcaption>
    <div class="scroll" tabindex="0"><table class="grid">
      <thead><tr>${grid.header.map((name, i) => html`<th key=${i} scope="col" class=${i ? "" : "left"}>${both(name)}</th>`)}</tr></thead>
      <tbody>${grid.rows.slice(0, most).map((row, i) => html`<tr key=${i}>${row.map((value, k) => (k ? html`<td key=${k}>${value}</td>` : html`<th key=${k} scope="row" class="left" dir="auto">${value}</th>`))}</tr>`)}</tbody>
    </table></div>
    ${grid.rows.length > most && html`<button class="plain" onClick=${() => setMost(grid.rows.length)}>${t("more", { n: grid.rows.length - most })}</button>`}
    ${grid.left_out > 0 && most >= grid.rows.length && html`<p class="note">${t("grid.left", { n: whole(grid.left_out) })}</p>`}
  </figure>`;
}
