# 上报一辆车 · Reports one car to the sandbox: pip install cryptography && python park.py
import base64
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

KEYS = Path(__file__).parent.parent / "keys"
path = "/v3/businesscircle/parkings"
body = json.dumps(
    {
        "brandid": {{brandid}},
        "appid": "{{appid}}",
        "openid": "oUpF8uMuAJOM2pxb1Q",
        "plate_number": "粤B888888",
        "state": "IN",
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    },
    ensure_ascii=False,
)
timestamp = str(int(time.time()))
nonce = secrets.token_hex(16)
message = f"POST\n{path}\n{timestamp}\n{nonce}\n{body}\n".encode()
key = load_pem_private_key((KEYS / "apiclient_key.pem").read_bytes(), None)
signature = base64.b64encode(key.sign(message, PKCS1v15(), SHA256())).decode()

request = urllib.request.Request(
    "{{base_url}}" + path,
    data=body.encode(),
    headers={
        "Authorization": f'WECHATPAY2-SHA256-RSA2048 mchid="{{mchid}}",nonce_str="{nonce}",signature="{signature}",'
        f'timestamp="{timestamp}",serial_no="{{serial_no}}"',
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Wechatpay-Serial": "{{public_key_id}}",
    },
)
try:
    reply = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=KEYS / "sandbox-ca.pem"))
except urllib.error.HTTPError as refused:
    reply = refused
answer = reply.read()
print(reply.status, answer.decode())
if reply.status >= 300:
    raise SystemExit(1)  # 拒绝的应答可能没有签名 · A refusal may come unsigned.

signed = f"{reply.headers['Wechatpay-Timestamp']}\n{reply.headers['Wechatpay-Nonce']}\n".encode() + answer + b"\n"
public_key = load_pem_public_key((KEYS / "pub_key.pem").read_bytes())
try:
    public_key.verify(base64.b64decode(reply.headers["Wechatpay-Signature"]), signed, PKCS1v15(), SHA256())
    print("signature good")
except InvalidSignature:
    print("signature BAD")
