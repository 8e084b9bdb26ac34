_chatto() {
  local word path= words= known="|||init||start||status||doctor||setup-link||invite||invite list||invite revoke||user||user create||user list||user set-password||user role||user role add||user role remove||assets||assets check||assets move||backup||backup verify||backup list||backup prune||backup extract||restore||keys||keys export||keys import||usb||usb pair||usb list||usb forget||usb run||check-config||version||completions|"
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
  case "$previous" in --binary|--config|--keys|--keys-passphrase-file|--output|--passphrase-file|--password-file|-c) COMPREPLY=($(compgen -f -- "$current")); return ;; esac
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$known" in *"|${path:+$path }$word|"*) path="${path:+$path }$word" ;; esac
  done
  case "$path" in
    '') words='init start status doctor setup-link invite user assets backup restore keys usb check-config version completions --config --json --quiet --progress --no-color --help' ;;
    'init') words='--with-secrets --config --json --quiet --progress --no-color --help' ;;
    'start') words='--config --json --quiet --progress --no-color --help' ;;
    'status') words='--ready --config --json --quiet --progress --no-color --help' ;;
    'doctor') words='--online --config --json --quiet --progress --no-color --help' ;;
    'setup-link') words='--config --json --quiet --progress --no-color --help' ;;
    'invite') words='list revoke --config --json --quiet --progress --no-color --help' ;;
    'invite list') words='--config --json --quiet --progress --no-color --help' ;;
    'invite revoke') words='--config --json --quiet --progress --no-color --help' ;;
    'user') words='create list set-password role --config --json --quiet --progress --no-color --help' ;;
    'user create') words='--link --login --display-name --email --role --password --password-file --config --json --quiet --progress --no-color --help' ;;
    'user list') words='--search --limit --offset --config --json --quiet --progress --no-color --help' ;;
    'user set-password') words='--password --password-file --config --json --quiet --progress --no-color --help' ;;
    'user role') words='add remove --config --json --quiet --progress --no-color --help' ;;
    'user role add') words='--config --json --quiet --progress --no-color --help' ;;
    'user role remove') words='--config --json --quiet --progress --no-color --help' ;;
    'assets') words='check move --config --json --quiet --progress --no-color --help' ;;
    'assets check') words='--config --json --quiet --progress --no-color --help' ;;
    'assets move') words='--to --config --json --quiet --progress --no-color --help' ;;
    'backup') words='verify list prune extract --output --encrypt --passphrase --passphrase-file --assets --include-s3 --accept-missing --verify --keep-last --keep-daily --keep-weekly --keep-monthly --prune-dry-run --require-mount --allow-plaintext --config --json --quiet --progress --no-color --help' ;;
    'backup verify') words='--newest --every --level --restore-test --work-dir --check-s3 --passphrase --passphrase-file --max-work-factor --config --json --quiet --progress --no-color --help' ;;
    'backup list') words='--config --json --quiet --progress --no-color --help' ;;
    'backup prune') words='--keep-last --keep-daily --keep-weekly --keep-monthly --dry-run --config --json --quiet --progress --no-color --help' ;;
    'backup extract') words='--output --format --keys --keys-passphrase-file --passphrase --passphrase-file --max-work-factor --work-dir --config --json --quiet --progress --no-color --help' ;;
    'restore') words='--conflict --passphrase --passphrase-file --dry-run --max-work-factor --config --json --quiet --progress --no-color --help' ;;
    'keys') words='export import --config --json --quiet --progress --no-color --help' ;;
    'keys export') words='--output --passphrase --passphrase-file --config --json --quiet --progress --no-color --help' ;;
    'keys import') words='--passphrase --passphrase-file --new-secret --config --json --quiet --progress --no-color --help' ;;
    'usb') words='pair list forget run --config --json --quiet --progress --no-color --help' ;;
    'usb pair') words='--name --with-keys --without-keys --binary --yes --config --json --quiet --progress --no-color --help' ;;
    'usb list') words='--config --json --quiet --progress --no-color --help' ;;
    'usb forget') words='--config --json --quiet --progress --no-color --help' ;;
    'usb run') words='--passphrase-file --config --json --quiet --progress --no-color --help' ;;
    'check-config') words='--config --json --quiet --progress --no-color --help' ;;
    'version') words='--config --json --quiet --progress --no-color --help' ;;
    'completions') words='--config --json --quiet --progress --no-color --help' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _chatto chatto
