// What this browser signs: a payload is read here, compared with what the patient sees and asked for, and made anew.
// The server proposes; a proposal that differs in one byte from what the screen says is not signed.

import * as wire from "/static/wire.js";
import * as parcel from "/static/parcel.js";
import { findGrant, sha256 } from "/static/keys.js";

const SKEW_S = 600;
const METHODS = ["EnrolSubject", "ListAccesses", "FetchMailbox", "ListKeys", "OfferCode"];
const ADD = 1, REVOKE = 2;
/** The roles of a key log, by their numbers, and in which capacity each stops a grant. */
export const ROLES = { device: 1, guardian: 2, recovery: 3 };
const STOPS_AS = { [ROLES.guardian]: 1, [ROLES.recovery]: 2 };

export class Differs extends Error {}

function must(holds, what) { if (!holds) throw new Differs(what); }
const soon = (at) => Math.abs(at - Date.now() / 1000) <= SKEW_S;
const same = (a, b) => a !== undefined && b !== undefined && wire.equal(a, b);
const subject = async (key) => (key.subject ? wire.unhex(key.subject) : sha256(key.raw));

/** The six digits that the cashier's screen shows too. */
export async function shortCode(request) {
  const hash = await sha256(request);
  const number = new DataView(hash.buffer).getBigUint64(0) % 1000000n;
  const digits = String(number).padStart(6, "0");
  return `${digits.slice(0, 3)} ${digits.slice(3)}`;
}

/** A request as the hospital signed it, with its terms read; throws if it is none. */
export function readRequest(bytes) {
  const asked = wire.decode(wire.REQUEST, bytes);
  const [version, cap, language, notice] = wire.uncbor(asked.terms);
  must(version === 1, "terms");
  return { ...asked, cap, language, notice };
}

/** The grant that the screen says: from the signed request, the patient's choice and her own key, nothing else. */
async function grantOf(proposed, key, intent) {
  const { asked, bytes, choice } = intent;
  must(key.hospital === wire.hex(asked.sender) && key.recipient === wire.hex(asked.recipient), "parties");
  must(asked.aud === key.origin && same(asked.subject_key, key.raw), "key");
  must(proposed.grant_id?.length === 16, "grant_id");
  must(soon(proposed.issued_at) && proposed.not_before === proposed.issued_at, "issued_at");
  must(choice.expiry <= asked.expiry && choice.data_erase_at <= asked.data_erase_at, "period");
  must(asked.cap === null || (choice.cap !== null && choice.cap <= asked.cap), "cap");
  const terms = wire.cbor([1, choice.cap, asked.language, asked.notice]);
  return {
    version: 1, suite: 1, grant_id: proposed.grant_id, subject_key: key.raw, aud: key.origin, purpose: asked.purpose,
    sender: asked.sender, recipient: asked.recipient, encounter: asked.encounter, scopes: scopesOf(asked, choice),
    max_uses: asked.max_uses, not_before: proposed.issued_at, expiry: choice.expiry, issued_at: proposed.issued_at,
    mode: asked.mode ?? 1, cnf: asked.sender, data_erase_at: choice.data_erase_at,
    terms: await sha256(wire.utf8("zhifu/v1 terms\0"), asked.terms_salt, terms), request_hash: await sha256(bytes),
    wallet_key: wire.unhex(key.wallet_key),
  };
}

/** The asked levels with the chosen ones in their place; a choice may only be coarser. */
function scopesOf(asked, choice) {
  return asked.scopes.map((scope) => {
    const levels = scope.levels.slice();
    for (const { schema, index, rank } of choice.units) {
      if (schema !== wire.hex(scope.schema_hash)) continue;
      must(rank >= levels[index], "finer than asked");
      levels[index] = rank;
    }
    return { schema_hash: scope.schema_hash, levels };
  });
}

const READ = {
  async grant(payload, key, intent) {
    must(intent.kind === "grant", "nobody agreed to anything");
    return wire.encode(wire.GRANT, await grantOf(wire.decode(wire.GRANT, payload), key, intent));
  },
  async ticket(payload, key, intent) {
    const found = wire.decode(wire.TICKET, payload);
    const grant = await findGrant(wire.hex(found.grant_hash));
    must(intent.kind === "code" && wire.hex(found.hospital) === intent.hospital, "hospital");
    must(grant?.direct_pay && grant.public === key.public && grant.hospital === intent.hospital, "grant");
    must(soon(found.issued_at) && found.nonce?.length === 16, "issued_at");
    return wire.encode(wire.TICKET, found);
  },
  async revocation(payload, key, intent) {
    const found = wire.decode(wire.REVOCATION, payload);
    must(["revoke", "take back"].includes(intent.kind) && found.aud === key.origin && !found.reason, "revocation");
    must((found.by ?? 0) === (STOPS_AS[key.role] ?? 0), "by");
    if (intent.kind === "take back") {
      // A parcel of this claim, never one of her consents by its name.
      const parcel_ = wire.hex(found.grant_hash ?? []);
      must(intent.parcels.includes(parcel_) && !found.subject && !(await findGrant(parcel_)), "parcel");
    } else if (intent.grant) must(wire.hex(found.grant_hash ?? []) === intent.grant && !found.subject, "grant");
    else must(same(found.subject, await subject(key)) && !found.grant_hash, "subject");
    must(!intent.hospital || key.hospital === intent.hospital, "hospital");
    return wire.encode(wire.REVOCATION, found);
  },
  async "subject key"(payload, key, intent) {
    const found = wire.decode(wire.SUBJECT_KEY, payload), added = found.change === ADD;
    must(found.aud === key.origin && same(found.subject, await subject(key)), "subject");
    if (intent.kind === "strike") must(found.change === REVOKE && wire.hex(found.key) === intent.struck, "struck");
    // Whoever adds a key was shown it, with its role; whoever offers his own knows both.
    else must(intent.adds && added && wire.hex(found.key) === intent.adds.key && found.role === intent.adds.role, "added");
    must(soon(found.issued_at) || intent.kind === "add", "issued_at");
    return wire.encode(wire.SUBJECT_KEY, found);
  },
  async parcel(payload, key, intent) {
    const found = parcel.decode(payload), [version, aud, recipient, claim, kind, , , digests, until, at] = found;
    must(intent.kind === "parcel" && version === 1 && aud === key.origin, "parcel");
    must(wire.hex(recipient) === key.recipient && wire.hex(claim) === intent.claim, "claim");
    must(intent.sends.includes(kind), "kind");
    must(digests.length > 0 && digests.length % 32 === 0 && soon(at) && until > at && until <= at + 400 * 86400, "digests");
    return parcel.encode(found);
  },
  async wallet(payload, key) {
    const found = wire.decode(wire.PROOF, payload);
    must(found.aud === key.origin && found.challenge?.length === 32 && METHODS.includes(found.method), "proof");
    return wire.encode(wire.PROOF, found);
  },
  async acknowledgement(payload, key, intent) {
    const found = wire.decode(wire.ACKNOWLEDGEMENT, payload);
    must(intent.kind === "refresh" && found.aud === key.origin && same(found.recipient, await subject(key)), "recipient");
    return wire.encode(wire.ACKNOWLEDGEMENT, found);
  },
};

/** The bytes to sign, made here; throws `Differs` where they are not the ones that were proposed. */
export async function check(name, payload, key, intent) {
  let own;
  try {
    own = await READ[name](payload, key, intent);
  } catch (error) {
    throw error instanceof Differs ? error : new Differs(error.message);
  }
  must(wire.equal(own, payload), "bytes");
  return own;
}
