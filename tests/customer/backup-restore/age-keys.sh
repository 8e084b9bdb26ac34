# Decrypt the key export (prompts for passphrase)
age -d keys.backup > keys.json

# View the exported keys (careful — contains sensitive data!)
cat keys.json | jq .
