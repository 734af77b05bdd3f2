REVOKE ALL ON FUNCTION ledger_lock_accounts, ledger_post, ledger_link_reversals, ledger_capture_holds, ledger_hold, ledger_lock_held,
    ledger_free, ledger_release, ledger_keep, ledger_expire, ledger_enter_open_period, ledger_moved, ledger_close, ledger_seal, ledger_adopt_server FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_post, ledger_hold, ledger_release, ledger_keep, ledger_expire, ledger_close, ledger_seal TO vault_app;
