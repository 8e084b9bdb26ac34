chatto backup -c chatto.toml --encrypt --passphrase "$BACKUP_PASSPHRASE"

# Or pipe from a secrets manager
vault kv get -field=passphrase secret/chatto | chatto backup -c chatto.toml --encrypt
