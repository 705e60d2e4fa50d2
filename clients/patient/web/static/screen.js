// Whether a screen says what the hospital signed: every unit at its level, the parties, the notice, the limits.

import { Differs, readRequest } from "/static/check.js";
import { own } from "/static/keys.js";
import { hex } from "/static/wire.js";

export const ABSENT = 255;

/** The request and the key that answers it, if ``screen`` says the same as ``bytes``; throws `Differs` otherwise. */
export async function sameAsSigned(screen, bytes, { sender, recipient, notice }) {
  const asked = readRequest(bytes);
  const wanted = asked.scopes.flatMap((scope) => [...scope.levels].flatMap((rank, index) =>
    rank === ABSENT ? [] : [`${hex(scope.schema_hash)} ${index} ${rank}`]));
  const rows = [...screen.querySelectorAll("[data-unit]")];
  const seen = rows.map((row) => `${row.dataset.schema} ${row.dataset.index} ${row.dataset.rank}`);
  if (wanted.sort().join() !== seen.sort().join()) throw new Differs("units");
  const key = await own(hex(asked.sender), hex(asked.recipient));
  if (!key) throw new Differs("parties");
  if (notice !== asked.notice) throw new Differs("notice");
  if (sender !== hex(asked.sender) || recipient !== hex(asked.recipient)) throw new Differs("parties");
  for (const [name, value] of [["expiry", asked.expiry], ["data_erase_at", asked.data_erase_at], ["max_uses", asked.max_uses]]) {
    if (Number(screen.dataset[name.replaceAll("_", "")]) !== value) throw new Differs(name);
  }
  return { asked, key };
}
