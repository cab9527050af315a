// The words of a text, coloured by what each contributes; a word that is chosen can be dropped, hidden or replaced.
import { html, percent, signed, useEffect, useRef, useState } from "./dom.js";
import { change, explanations, pair, t, text, undo, undoes } from "./state.js";

export function Why({ model }) {
  const found = explanations.value[model.name];
  const [chosen, choose] = useState(null);
  useEffect(() => choose(null), [found?.text, found?.pair]);
  const output = found && model.outputs.find((each) => each.name === found.output);
  if (!found || !found.explained.length || output?.reads === "tokens") return null;
  const { contributions, label, scores_without: without } = found.explained[0];
  const most = Math.max(...contributions.map((value) => Math.abs(value ?? 0)), 1e-9);
  const current = found.text === text.value && (found.pair === null || found.pair === pair.value);
  const parts = found.pair === null ? ["text"] : ["text", "pair"];
  return html`<section class=${current ? "why" : "why stale"}>
    <h3>${t("why")}</h3>
    <p class="note">${t("why.note", { label: label ?? found.output })} <span class="legend"><i class="for"></i>${t("for")} <i class="against"></i>${t("against")}</span></p>
    ${parts.map((of) => html`<p class="words" key=${of}>${drawn(found, of).map(([between, index]) => (index === null ? between : html`<${Word} found=${found} index=${index} share=${(contributions[index] ?? 0) / most} value=${contributions[index]} chosen=${chosen === index} choose=${choose} />`))}</p>`)}
    ${chosen !== null && found.words[chosen] && html`<${Change} key=${chosen} word=${found.words[chosen]} value=${contributions[chosen]} score=${without?.[chosen]} done=${() => choose(null)} current=${current} isShare=${label !== null} />`}
    ${chosen === null && html`<p class="note">${t("why.click")}</p>`}
    ${found.together > 1 && html`<p class="note">${t("together", { n: found.together })}</p>`}
    ${found.unread > 0 && html`<p class="note">${t("unread", { n: found.unread })}</p>`}
  </section>`;
}

export function Undo() {
  if (!undoes.value.length) return null;
  return html`<p class="note"><button class="plain" onClick=${undo}>${t("undo")}</button> · ${t("before")}</p>`;
}

// What stands between words, and words by index: the server counts characters, not halves of them.
function drawn(found, of) {
  const signs = Array.from(of === "pair" ? found.pair : found.text);
  const parts = [];
  let at = 0;
  found.words.forEach((word, index) => {
    if (word.of !== of) return;
    parts.push([signs.slice(at, word.start).join(""), null], [word.text, index]);
    at = word.end;
  });
  return [...parts, [signs.slice(at).join(""), null]];
}

function Word({ found, index, share, value, chosen, choose }) {
  const side = value === null || Math.abs(share) < 0.02 ? "" : value > 0 ? "for" : "against";
  const told = value === null ? "" : signed(value);
  return html`<button class=${`word ${side}`} style=${{ "--share": Math.abs(share).toFixed(2) }} title=${told} aria-label=${`${found.words[index].text} ${told}`} aria-expanded=${chosen} onClick=${() => choose(chosen ? null : index)}>${found.words[index].text}</button>`;
}

function Change({ word, value, score, done, current, isShare }) {
  const [other, setOther] = useState("");
  const field = useRef(null);
  const put = (instead) => {
    const whole = word.of === "pair" ? pair.value : text.value;
    const signs = Array.from(whole);
    let { start, end } = word;
    if (!instead) {
      if (signs[start - 1] === " ") start--;
      else if (signs[end] === " ") end++;
    }
    done();
    change(word.of, [...signs.slice(0, start), instead, ...signs.slice(end)].join(""));
  };
  const onKey = (event) => event.key === "Escape" && done();
  return html`<form class="change" onKeyDown=${onKey} onSubmit=${(event) => (event.preventDefault(), other.trim() && put(other))}>
    <p><strong>${word.text}</strong> ${value !== null && signed(value)} ${score != null && html`<small>${t("without", { score: isShare ? percent(score) : score.toFixed(2) })}</small>`}</p>
    <button type="button" disabled=${!current} onClick=${() => put("")}>${t("drop")}</button>
    <button type="button" disabled=${!current} onClick=${() => put("[MASK]")}>${t("mask")}</button>
    <input ref=${field} value=${other} placeholder=${t("with")} aria-label=${t("with")} onInput=${(event) => setOther(event.target.value)} />
    <button disabled=${!current || !other.trim()}>${t("replace")}</button>
    <button type="button" class="plain" onClick=${done}>${t("close")}</button>
  </form>`;
}
