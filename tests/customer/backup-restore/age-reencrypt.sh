# Decrypt with the old passphrase
age -d backup.tar.gz.age > backup.tar.gz

# Re-encrypt with a new passphrase
age -p backup.tar.gz > backup-new.tar.gz.age

# Clean up the unencrypted file
rm backup.tar.gz
