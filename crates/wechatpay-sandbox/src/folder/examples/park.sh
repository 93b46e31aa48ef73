#!/usr/bin/env bash
# 上报一辆车 · Reports one car to the sandbox with curl and openssl: bash park.sh
set -euo pipefail
cd "$(dirname "$0")"
path=/v3/businesscircle/parkings
body='{"brandid":{{brandid}},"appid":"{{appid}}","openid":"oUpF8uMuAJOM2pxb1Q","plate_number":"粤B888888","state":"IN","time":"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"}'
timestamp=$(date +%s)
nonce=$(openssl rand -hex 16)
signature=$(printf 'POST\n%s\n%s\n%s\n%s\n' "$path" "$timestamp" "$nonce" "$body" |
  openssl dgst -sha256 -sign ../keys/apiclient_key.pem | openssl base64 -A)

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
status=$(curl --silent --show-error --cacert ../keys/sandbox-ca.pem \
  --dump-header "$folder/headers" --output "$folder/answer" --write-out '%{http_code}' \
  --header "Authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"{{mchid}}\",nonce_str=\"$nonce\",signature=\"$signature\",timestamp=\"$timestamp\",serial_no=\"{{serial_no}}\"" \
  --header 'Accept: application/json' --header 'Content-Type: application/json' \
  --header 'Wechatpay-Serial: {{public_key_id}}' \
  --data-binary "$body" "{{base_url}}$path")
touch "$folder/answer"
echo "$status $(cat "$folder/answer")"
# 拒绝的应答可能没有签名 · A refusal may come unsigned.
[[ $status == 2* ]] || exit 1

header() { sed -n "s/^$1: //Ip" "$folder/headers" | tr -d '\r'; }
header Wechatpay-Signature | openssl base64 -d -A >"$folder/signature"
{ printf '%s\n%s\n' "$(header Wechatpay-Timestamp)" "$(header Wechatpay-Nonce)"; cat "$folder/answer"; echo; } |
  openssl dgst -sha256 -verify ../keys/pub_key.pem -signature "$folder/signature" >"$folder/verdict" || true
grep -q 'Verified OK' "$folder/verdict" && echo 'signature good'
