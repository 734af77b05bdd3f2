-- The partner's view of its wallet: one row a wallet entry, in the order of `account_version`, each with the balance it left.
-- `amount_cents` is what the wallet gained (positive) or paid (negative). `fee_lines` says what was charged: from the charge's
-- lines with the dated tariff behind each, else from the legs on the fee accounts; what a reversal gives back is negative there.
-- What people typed (top-ups, corrections) is left out: it may name somebody, and is in the audit trail.
CREATE OR REPLACE VIEW wallet_transactions WITH (security_invoker = true) AS
SELECT a.scope AS partner_id, t.effective_at AS at, t.booked_at, t.kind, t.reference,
       CASE WHEN t.kind IN ('charges', 'sms') THEN t.description ELSE '' END AS description,
       -e.amount_cents AS amount_cents,
       coalesce(
           (SELECT jsonb_agg(jsonb_build_object('line', l.line, 'amount_cents', l.amount_cents,
                                                'tariff', coalesce(f.provider || ' ' || f.product || ' ' || f.valid_from,
                                                                   'terms of ' || s.valid_from)) ORDER BY l.line)
            FROM charge_lines l LEFT JOIN tariff_bands b ON b.id = l.tariff_band_id LEFT JOIN tariffs f ON f.id = b.tariff_id
            LEFT JOIN system_fees s ON s.id = l.system_fee_id
            WHERE l.transaction_id = t.id AND l.amount_cents > 0),
           (SELECT jsonb_agg(jsonb_build_object('line', fee.line, 'amount_cents', -fee.cents, 'tariff', NULL) ORDER BY fee.line)
            FROM (SELECT CASE h.code WHEN 'fees:mpesa' THEN 'mpesa_fee' WHEN 'fees:system' THEN 'system_fee' WHEN 'fees:sms' THEN 'sms'
                                     WHEN 'tax:excise' THEN 'excise' END AS line, sum(g.amount_cents)::bigint AS cents
                  FROM ledger_entries g JOIN ledger_accounts h ON h.id = g.account_id
                  WHERE g.transaction_id = t.id AND h.code IN ('fees:mpesa', 'fees:system', 'fees:sms', 'tax:excise')
                  GROUP BY 1) AS fee),
           '[]') AS fee_lines,
       -e.balance_after_cents AS balance_after_cents, t.id AS transaction_id, e.account_version, t.carried_from,
       (SELECT o.kind FROM ledger_transactions o WHERE o.id = t.reverses) AS reversed_kind, e.account_id
FROM ledger_accounts a
JOIN ledger_entries e ON e.account_id = a.id
JOIN ledger_transactions t ON t.id = e.transaction_id
WHERE a.code = 'wallet';
