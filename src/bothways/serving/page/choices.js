// Which output and label of a model is explained, and what was said before a word was changed.
import { answers, before as answersBefore, explained } from "./state.js";

export const explain = (model, output, label) => (explained.value = { ...explained.value, [model.name]: { output: output.name, label } });

// The label that is explained in an output, whether it was chosen or decided.
export function explainedLabel(model, output) {
  const asked = explained.value[model.name] ?? { output: model.outputs[0]?.name };
  if (asked.output !== output.name) return undefined;
  return asked.label ?? answers.value[model.name]?.outputs[output.name].label;
}

export function before(model, output, label) {
  const said = answersBefore.value[model.name]?.outputs[output.name];
  return label === undefined ? said?.value : said?.scores?.[label];
}
