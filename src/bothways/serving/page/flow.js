// How it works: tokens → sum of three embeddings → layers → pooling → outputs, with the numbers of this text.
import { ask, latest } from "./api.js";
import { Answers } from "./answers.js";
import { effect, html, signal, useEffect } from "./dom.js";
import { bodyFor, failure, model, first, pair, t, text } from "./state.js";

const seen = signal(null);
const layer = signal(0);
const head = signal(-1); // -1: the mean of all
const looking = signal(1); // the token whose attention is shown
const PARTS = [["flow.token", "token"], ["flow.segment", "segment"], ["flow.position", "position"], ["flow.total", "sum"]];

const look = latest(150, async (signal, each) => {
  try {
    seen.value = await ask("/inside", bodyFor(each), signal);
    looking.value = Math.min(looking.value, seen.value.tokens.length - 1);
  } catch (error) {
    if (error.name !== "AbortError") failure.value = error.message;
  }
});

export function Flow() {
  useEffect(() => effect(() => {
    const each = model(first.value);
    if (text.value.trim() && each && (each.reads.length === 1 || pair.value.trim())) look(each);
    else seen.value = null;
  }), []);
  const each = model(first.value);
  const found = seen.value;
  if (!found || !each) return html`<p class="note">${t("flow.lead")} ${t("flow.empty")}</p>`;
  const reads = [...new Set(each.outputs.map((output) => output.reads))].filter((read) => ["mean", "first", "tokens"].includes(read));
  return html`<p class="note">${t("flow.lead")} ${found.truncated && t("flow.cut")}</p>
    <ol class="flow">
      <${Step} title=${t("flow.tokens")} note=${t("flow.tokens.note", { n: found.tokens.length })}>
        <p class="tokens">${found.tokens.map((token, i) => html`<span key=${i} class=${`token s${found.segments[i]}`}>${token}</span>`)}</p>
      <//>
      <${Step} title=${t("flow.sum")} note=${t("flow.sum.note", { n: each.hidden })}><${Sum} found=${found} /><//>
      <${Step} title=${t("flow.layers", { n: each.layers })} note=${t("flow.layers.note", { n: each.heads })}><${Layers} each=${each} found=${found} /><//>
      ${reads.length > 0 && html`<${Step} title=${t("flow.pooling")} note=${reads.map((read) => t(`flow.pooling.${read}`)).join(" ")} />`}
      ${each.outputs.length > 0 && html`<${Step} title=${t("flow.outputs")} note=${t("flow.outputs.note")}><${Answers} model=${each} /><//>`}
    </ol>`;
}

const Step = ({ title, note, children }) => html`<li><h3>${title}</h3><p class="note">${note}</p>${children}</li>`;

function Sum({ found }) {
  const most = Math.max(...PARTS.flatMap(([, part]) => found.norms[part]));
  return html`<div class="scroll" tabindex="0"><table class="sum">
    <tbody>
      ${PARTS.map(([name, part]) => html`<tr key=${part} class=${`of-${part}`}><th scope="row">${t(name)}</th>${found.norms[part].map((norm, i) => html`<td key=${i} title=${norm}><span class="pillar" style=${{ transform: `scaleY(${norm / most})` }}></span></td>`)}</tr>`)}
      <tr><th></th>${found.tokens.map((token, i) => html`<td key=${i} class="name">${token}</td>`)}</tr>
    </tbody>
  </table></div>`;
}

function Layers({ each, found }) {
  const heads = found.attention[Math.min(layer.value, each.layers - 1)];
  const row = head.value < 0 ? meanRow(heads, looking.value) : heads[Math.min(head.value, each.heads - 1)][looking.value];
  const most = Math.max(...row);
  const numbers = (most) => Array.from({ length: most }, (_, i) => html`<option key=${i} value=${i}>${i + 1}</option>`);
  return html`<p class="choices">
      <label>${t("flow.layer")} <select value=${layer.value} onChange=${(event) => (layer.value = Number(event.target.value))}>${numbers(each.layers)}</select></label>
      <label>${t("flow.head")} <select value=${head.value} onChange=${(event) => (head.value = Number(event.target.value))}><option value=${-1}>${t("flow.mean")}</option>${numbers(each.heads)}</select></label>
    </p>
    <p class="tokens">${found.tokens.map((token, i) => html`<button key=${i} class="token look" aria-pressed=${i === looking.value} style=${{ "--share": (row[i] / most).toFixed(2) }} title=${row[i].toFixed(3)} onClick=${() => (looking.value = i)}>${token}</button>`)}</p>`;
}

const meanRow = (heads, at) => heads[0][at].map((_, to) => heads.reduce((sum, head) => sum + head[at][to], 0) / heads.length);
