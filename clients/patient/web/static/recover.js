// After a loss: the recovery code stops everything at once, or gets this device in after a day.

import { Refusal, errand, onClick, origin, said, say } from "/static/errand.js";
import { ROLES } from "/static/check.js";
import { fresh, keep } from "/static/keys.js";
import { pairOf } from "/static/key-of.js";
import { Slip, recoveryKey } from "/static/recovery.js";

const at = (name) => document.getElementById(name);

/** The pair, and the recovery code's key for it with whose it is; the code itself stays in its field. */
async function vouching() {
  const whose = pairOf();
  const code = await recoveryKey(at("typed-code").value, whose.hospital, whose.recipient, "").catch((error) => {
    at("typed-code").focus();
    throw error instanceof Slip ? new Refusal("recovery-slip") : error;
  });
  const body = { ...whose, recovery: code.public };
  const { subject } = await errand("/api/keys/whose", body, { kind: "look", lent: [code] });
  return { code: { ...code, subject }, whose, body: { ...body, subject } };
}

onClick(at("stop-all"), async () => {
  const { code, body } = await vouching();
  const found = await errand("/api/keys/stop", body, { kind: "revoke", lent: [code] });
  const said_ = said["ended"].replace("{count}", found.grants.length).replace("{delivered}", found.delivered);
  say(said_.replace("{withheld}", found.withheld));
});

onClick(at("get-in"), async () => {
  const { whose, code, body } = await vouching();
  const key = await fresh(whose.hospital, whose.recipient);
  Object.assign(key, { origin, wallet_key: "", subject: code.subject, role: ROLES.device });
  const adds = { key: key.public, role: ROLES.device };
  // Kept before the broker hears of it: a key that nobody has could not even be struck from here.
  await keep(key);
  const found = await errand("/api/keys/recover", { ...body, key: key.public }, { kind: "recover", adds, lent: [code, key] });
  at("typed-code").value = "";
  at("recovered-when").textContent = said["recovered-when"].replace("{when}", found.active);
  at("recovered").hidden = false;
  at("recovered").querySelector("h2").focus();
});
