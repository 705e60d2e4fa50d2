// The fields that say whose key it is about.

import { Refusal } from "/static/errand.js";

const value = (name) => document.getElementById(name).value;

/** The pair that a key is for. */
export const pairOf = () => ({ hospital: value("of-hospital"), recipient: value("of-recipient") });

/** Her subject key in hex, as her own device shows it, and the pair that it is for. */
export function keyOf() {
  // The code that her device shows holds a second key, which is not needed here.
  const field = document.getElementById("of-key"), text = field.value.toLowerCase().replace(/\s/g, "").split(".")[0];
  if (!/^[0-9a-f]{64}$/.test(text)) { field.focus(); throw new Refusal("usage.argument"); }
  return { subject_key: text, ...pairOf() };
}
