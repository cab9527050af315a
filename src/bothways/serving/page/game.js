// The masked-word game: guess a hidden word, against an encoder that has read the same sentence.
import { ask } from "./api.js";
import { batch, html, percent, signal, useEffect } from "./dom.js";
import sentences from "./sentences.js";
import { failure, language, models, t } from "./state.js";

const round = signal(null); // {before, after, word, guesses, guess}
const points = signal({ you: 0, it: 0, rounds: 0 });
const own = signal("");
const typed = signal("");
const chosen = signal("");
const seen = [];
let question = 0; // only the newest is shown

const guessers = () => models.value.filter((each) => each.masked);
const guesser = () => {
  const all = guessers();
  return all.find((each) => each.name === chosen.value) ?? all.find((each) => each.name.startsWith(language.value)) ?? all[0];
};
const same = (one, other) => one.trim().toLowerCase() === other.trim().toLowerCase();

// A sentence that was not had lately.
function pick() {
  const lines = own.value.split("\n").filter((line) => line.trim());
  const from = lines.length ? lines : sentences[language.value];
  const fresh = from.filter((line) => !seen.includes(line));
  if (!fresh.length) seen.length = 0;
  const left = fresh.length ? fresh : from;
  const found = left[Math.floor(Math.random() * left.length)];
  seen.push(found);
  return found;
}

// The words that are one token each: those that the encoder can guess.
async function wordsOf(each, sentence) {
  const [tokens] = await ask("/tokenize", { model: each.name, inputs: sentence, add_special_tokens: false });
  const signs = Array.from(sentence);
  const letter = (sign) => sign !== undefined && /[\p{L}\p{N}'’]/u.test(sign) && !/\p{Script=Han}/u.test(sign);
  return tokens
    .map(({ start, stop }) => ({ start, stop, word: signs.slice(start, stop).join("") }))
    .filter(({ start, stop, word }) => /\p{Script=Han}/u.test(word) || (word.length > 3 && /^\p{L}+$/u.test(word) && !letter(signs[start - 1]) && !letter(signs[stop])));
}

async function next() {
  const each = guesser();
  if (!each) return;
  const asked = (question += 1);
  round.value = null;
  try {
    const sentence = pick();
    const words = await wordsOf(each, sentence);
    if (!words.length) return;
    const { start, stop, word } = words[Math.floor(Math.random() * words.length)];
    const signs = Array.from(sentence);
    const [before, after] = [signs.slice(0, start).join(""), signs.slice(stop).join("")];
    const { guesses } = await ask("/masked", { model: each.name, inputs: `${before}[MASK]${after}` });
    if (asked === question) batch(() => ((round.value = { before, after, word, guesses: guesses[0], guess: null }), (typed.value = ""), (failure.value = "")));
  } catch (error) {
    failure.value = error.message;
  }
}

function reveal(event) {
  event.preventDefault();
  const now = round.value;
  if (!now || now.guess !== null || !typed.value.trim()) return;
  const { you, it, rounds } = points.value;
  batch(() => {
    round.value = { ...now, guess: typed.value };
    points.value = { you: you + same(typed.value, now.word), it: it + same(now.guesses.tokens[0], now.word), rounds: rounds + 1 };
  });
}

export function Game() {
  useEffect(() => void next(), [language.value, chosen.value, models.value]);
  if (!guesser()) return html`<p class="lead">${t("game.none")}</p>`;
  const now = round.value;
  return html`<section class="game">
    <p class="note">${t("game.lead")}</p>
    ${guessers().length > 1 && html`<select aria-label=${t("game.it")} value=${guesser().name} onChange=${(event) => (chosen.value = event.target.value)}>${guessers().map((each) => html`<option>${each.name}</option>`)}</select>`}
    ${!now && html`<p class="sentence">…</p>`}
    ${now && html`<form onSubmit=${reveal}>
      <p class="sentence">${now.before}${now.guess === null ? html`<input value=${typed.value} autocomplete="off" autocapitalize="off" spellcheck=${false} aria-label=${t("game.guess")} placeholder=${t("game.guess")} onInput=${(event) => (typed.value = event.target.value)} />` : html`<mark>${now.word}</mark>`}${now.after}</p>
      ${now.guess === null && html`<button disabled=${!typed.value.trim()}>${t("game.reveal")}</button>`}
    </form>`}
    ${now && now.guess !== null && html`<${Revealed} now=${now} />`}
    <p class="points"><span>${t("game.you")} <b>${points.value.you}</b></span><span>${t("game.it")} <b>${points.value.it}</b></span><span class="note">${t("game.rounds", { n: points.value.rounds })}</span></p>
    <details><summary>${t("game.own")}</summary><textarea rows="4" aria-label=${t("game.own")} value=${own.value} onInput=${(event) => (own.value = event.target.value)}></textarea></details>
  </section>`;
}

function Revealed({ now }) {
  const { tokens, probabilities } = now.guesses;
  return html`<div aria-live="polite">
    <p>${t("game.was", { word: now.word })} ${t("game.you")}: <b>${now.guess}</b> – ${same(now.guess, now.word) ? t("game.right") : t("game.wrong")}</p>
    <h3>${t("game.it")}</h3>
    <ul class="bars">${tokens.map((token, i) => html`<li key=${i} class=${same(token, now.word) ? "decided" : ""}><span class="label">${token}</span><span class="track"><span class="bar" style=${{ transform: `scaleX(${probabilities[i]})` }}></span></span><span class="score">${percent(probabilities[i])}</span></li>`)}</ul>
    <button autofocus onClick=${next}>${t("game.next")}</button>
  </div>`;
}
