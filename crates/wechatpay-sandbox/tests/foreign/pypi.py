# Drives wechatpayv3 against the sandbox. Told where by JSON in an environment variable; says what happened in lines of
# JSON, which the test reads. The package has no setting for the base URL: one attribute is pinned.
import json
import os
import sys
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3.core import Core
from wechatpayv3.type import RequestType

told = json.loads(os.environ["SANDBOX"])
Core._gate_way = property(lambda self: told["base_url"], lambda self, value: None)


def say(step, **more):
    print(json.dumps({"step": step, **more}), flush=True)


def client(private_key, **more):
    return WeChatPay(
        wechatpay_type=WeChatPayType.MINIPROG,
        mchid=told["mchid"],
        private_key=private_key,
        cert_serial_no=told["serial_no"],
        appid=told["parking"]["appid"],
        apiv3_key=told["api_v3_key"],
        **more,
    )


def park(wxpay, **more):
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    state = {**told["parking"], "time": now, **more}
    return wxpay._core.request("/v3/businesscircle/parkings", method=RequestType.POST, data=state)


# Without a public key it downloads, opens and checks the certificates first.
by_certificate = client(told["private_key_pem"])
say("certificates", serials=["%040X" % held.serial_number for held in by_certificate._core._certificates])
say("park", status=park(by_certificate)[0])

by_public_key = client(
    told["private_key_pem"], public_key=told["public_key_pem"], public_key_id=told["public_key_id"]
)
say("public key", status=park(by_public_key)[0])
mistaken = client(told["wrong_key_pem"], public_key=told["public_key_pem"], public_key_id=told["public_key_id"])
status, answer = park(mistaken)
say("wrong key", status=status, code=json.loads(answer)["code"])
status, answer = park(by_public_key, plate_number="B888888")
say("wrong plate", status=status, code=json.loads(answer)["code"])

status, answer = by_certificate.user_authorization(told["parking"]["openid"])
say("authorization", **json.loads(answer))
sealed = by_public_key._core.encrypt("你好")
status, answer = by_public_key._core.request(
    "/v3/security/echo",
    method=RequestType.POST,
    data={"echo_message": "hello", "encrypted_echo_message": sealed},
)
say("echo", opened=by_public_key._core.decrypt(json.loads(answer)["encrypted_echo_message"]))

say("spoil")
sys.stdin.readline()
try:
    park(by_certificate)
except Exception as error:
    say("spoilt", error=str(error))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told_us = by_certificate.callback(self.headers, body)
        status, answer = (200, {"code": "SUCCESS", "message": "成功"}) if told_us else (401, {"code": "FAIL"})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
        if told_us:
            say("callback", **told_us["resource"])

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
say("listening", port=server.server_address[1])
server.serve_forever()
