# Decrypt the archive (prompts for passphrase)
age -d backup.tar.gz.age > backup.tar.gz

# Then extract normally
tar xzf backup.tar.gz

# Inspect the manifest
cat backup/manifest.json | jq .
