// 上报一辆车 · Reports one car to the sandbox with nothing but Node.js: node park.mjs
import { createSign, createVerify, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { request } from "node:https";

const key = (name) => readFileSync(new URL(`../keys/${name}`, import.meta.url));
const path = "/v3/businesscircle/parkings";
const body = JSON.stringify({
  brandid: {{brandid}},
  appid: "{{appid}}",
  openid: "oUpF8uMuAJOM2pxb1Q",
  plate_number: "粤B888888",
  state: "IN",
  time: new Date().toISOString(),
});
const timestamp = Math.floor(Date.now() / 1000);
const nonce = randomBytes(16).toString("hex");
const signature = createSign("sha256")
  .update(`POST\n${path}\n${timestamp}\n${nonce}\n${body}\n`)
  .sign(key("apiclient_key.pem"), "base64");

const call = request("{{base_url}}" + path, {
  method: "POST",
  ca: key("sandbox-ca.pem"),
  headers: {
    Authorization: `WECHATPAY2-SHA256-RSA2048 mchid="{{mchid}}",nonce_str="${nonce}",signature="${signature}",timestamp="${timestamp}",serial_no="{{serial_no}}"`,
    Accept: "application/json",
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    "User-Agent": "park.mjs",
    "Wechatpay-Serial": "{{public_key_id}}",
  },
});
call.on("response", async (reply) => {
  let answer = "";
  for await (const piece of reply.setEncoding("utf8")) answer += piece;
  console.log(reply.statusCode, answer);
  if (reply.statusCode >= 300) process.exit(1); // 拒绝的应答可能没有签名 · A refusal may come unsigned.
  const signed = `${reply.headers["wechatpay-timestamp"]}\n${reply.headers["wechatpay-nonce"]}\n${answer}\n`;
  const good = createVerify("sha256")
    .update(signed)
    .verify(key("pub_key.pem"), reply.headers["wechatpay-signature"] ?? "", "base64");
  console.log(good ? "signature good" : "signature BAD");
});
call.end(body);
