// What a model says of a text: for each output bars, a number on a scale, or coloured words.
import { before, explainedLabel, explain } from "./choices.js";
import { html, percent, signal, useState } from "./dom.js";
import { answers, t } from "./state.js";

const MOST_BARS = 10;

export function Answers({ model }) {
  const answer = answers.value[model.name];
  if (!model.outputs.length) return html`<p class="note">${t("encoder")}</p>`;
  return html`<div class="answers">
    ${model.outputs.map((output) => html`<${Output} key=${output.name} model=${model} output=${output} said=${answer?.outputs[output.name]} />`)}
    ${answer &&
    html`<p class="note">${t("tokens", { n: answer.tokens })}${answer.truncated && html` · <strong>${t("truncated")}</strong>`}</p>`}
  </div>`;
}

export function Output({ model, output, said }) {
  const kind = said ? shapeOf(said) : output.labels.length && output.reads !== "tokens" ? Bars : null;
  return html`<section class="output">
    <h3>${output.name}</h3>
    ${said?.known === false && html`<p class="unknown"><strong>${t("known.no")}${t("stop")}</strong>${t("known.why")}</p>`}
    ${kind && html`<${kind} model=${model} output=${output} said=${said} />`}
  </section>`;
}

const shapeOf = (said) => ("scores" in said && !Array.isArray(said.scores) ? Bars : "value" in said ? Number_ : Tags);

function Bars({ model, output, said }) {
  const [wanted, setWanted] = useState("");
  const [all, setAll] = useState(false);
  const scores = said?.scores ?? {};
  const decided = said ? (said.labels ?? [said.label]) : [];
  const many = output.labels.length > MOST_BARS;
  const order = many && said ? [...output.labels].sort((a, b) => scores[b] - scores[a]) : output.labels;
  const found = order.filter((label) => label.toLowerCase().includes(wanted.toLowerCase()));
  const drawn = all ? found : found.slice(0, MOST_BARS);
  return html`
    ${many &&
    html`<input type="search" class="filter" value=${wanted} placeholder=${t("filter", { n: output.labels.length })} aria-label=${t("filter", { n: output.labels.length })} onInput=${(event) => setWanted(event.target.value)} />`}
    <ul class="bars">
      ${drawn.map((label) => html`<${Bar} key=${label} model=${model} output=${output} label=${label} score=${scores[label]} decided=${decided.includes(label) && said.known !== false} />`)}
    </ul>
    ${!found.length && html`<p class="note">${t("none")}</p>`}
    ${found.length > drawn.length && html`<button class="plain" onClick=${() => setAll(true)}>${t("more", { n: found.length - drawn.length })}</button>`}
    ${said?.labels?.length === 0 && html`<p class="note">${t("nothing")}</p>`}
    ${said?.set?.length > 1 && html`<p class="note">${t("set", { labels: said.set.join(" · ") })}</p>`}
  `;
}

function Bar({ model, output, label, score, decided }) {
  const threshold = output.thresholds[output.labels.indexOf(label)];
  const was = before(model, output, label);
  const chosen = explainedLabel(model, output) === label;
  return html`<li class=${decided ? "decided" : ""}>
    <button class="label" title=${t("explain.label", { label })} aria-pressed=${chosen} onClick=${() => explain(model, output, label)}>${label}</button>
    <span class="track">
      <span class="bar" style=${{ transform: `scaleX(${score ?? 0})` }}></span>
      ${was !== undefined && html`<span class="was" style=${{ left: `${100 * was}%` }} title=${percent(was)}></span>`}
      ${threshold !== undefined && html`<span class="threshold" style=${{ left: `${100 * threshold}%` }} title=${t("threshold", { p: percent(threshold) })}></span>`}
    </span>
    <span class="score">${score === undefined ? "" : percent(score)}</span>
  </li>`;
}

const reach = signal({}); // the least and the most that an output has said so far

function Number_({ model, output, said }) {
  const key = `${model.name}/${output.name}`;
  const [low, high] = reach.peek()[key] ?? [0, 1];
  const ends = [Math.min(low, Math.floor(said.value)), Math.max(high, Math.ceil(said.value))];
  reach.peek()[key] = ends;
  const was = before(model, output);
  const place = (value) => ({ left: `${(100 * (value - ends[0])) / (ends[1] - ends[0])}%` });
  return html`<p class="number">${said.value.toFixed(2)}</p>
    <div class="scale" role="img" aria-label=${`${t("number")}: ${said.value}`}>
      <span class="dot" style=${place(said.value)}></span>
      ${was !== undefined && html`<span class="was" style=${place(Math.min(Math.max(was, ends[0]), ends[1]))}></span>`}
      <small>${ends[0]}</small><small>${ends[1]}</small>
    </div>`;
}

function Tags({ output, said }) {
  const colours = [...new Set(output.labels.map(stem))].filter((label) => label !== "O");
  return html`<p class="tags">
    ${said.words.map((word, i) => {
      const label = said.labels[i];
      const colour = label === null ? -1 : colours.indexOf(stem(label));
      return html`<span class=${`tag ${colour < 0 ? "" : `c${colour % 8}`}`} title=${label && `${label} ${percent(said.scores[i])}`}>${word}${colour >= 0 && html`<small>${label}</small>`}</span> ${""}`;
    })}
  </p>`;
}

// B-PER and I-PER are of one colour.
const stem = (label) => label.replace(/^[BIES]-/, "");
