-- Text in a hash: its length first, so that no two lists of texts read the same. (Stable, as convert_to is: so they are inlined.)
CREATE OR REPLACE FUNCTION ledger_text_bytes(value text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN int4send(octet_length(value)) || convert_to(value, 'UTF8');

-- What a key stands for. Legs are hashed in the order of their accounts and amounts, not of their writing.
CREATE OR REPLACE FUNCTION ledger_leg_bytes(code text, cents bigint) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN int4send(octet_length(code)) || convert_to(code, 'UTF8') || int8send(cents);
CREATE OR REPLACE FUNCTION ledger_body_hash(kind text, reference text, effective_at timestamptz, reverses uuid, legs bytea)
RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(ledger_text_bytes(kind) || ledger_text_bytes(reference) || timestamptz_send(effective_at)
              || uuid_send(coalesce(reverses, '00000000-0000-0000-0000-000000000000')) || legs);
