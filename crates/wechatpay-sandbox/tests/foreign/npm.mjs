// Drives wechatpay-axios-plugin against the sandbox. Told where by JSON in an environment variable; says what happened in
// lines of JSON, which the test reads.
import { createServer } from "node:http";
import sdk from "wechatpay-axios-plugin";

const { Wechatpay, Rsa, Formatter, Aes: { AesGcm } } = sdk;
const told = JSON.parse(process.env.SANDBOX);
const say = (step, more) => console.log(JSON.stringify({ step, ...more }));
const client = (privateKey, certs) =>
  new Wechatpay({ baseURL: told.base_url, mchid: told.mchid, serial: told.serial_no, privateKey, certs });
const certs = () => ({ [told.certificate_serial]: told.certificate_pem, [told.public_key_id]: told.public_key_pem });
const state = () => ({ ...told.parking, time: new Date().toISOString() });
const refused = (error) => ({ status: error.response?.status, code: error.response?.data?.code ?? error.code });

const wxpay = client(told.private_key_pem, certs());
say("chain", { status: (await wxpay.v3.businesscircle.parkings.post(state())).status });
say("declared", { status: (await wxpay.chain("v3/businesscircle/parkings").post(state())).status });
say("indexed", { status: (await wxpay["v3/businesscircle/parkings"].post(state())).status });
const headers = { "Wechatpay-Serial": told.public_key_id };
say("public key", { serial: (await wxpay.v3.businesscircle.parkings.post(state(), { headers })).headers["wechatpay-serial"] });
await client(told.wrong_key_pem, certs()).v3.businesscircle.parkings.post(state())
  .catch((error) => say("wrong key", refused(error)));
await wxpay.v3.businesscircle.parkings.post({ ...state(), plate_number: "B888888" })
  .catch((error) => say("wrong plate", refused(error)));

const authorization = await wxpay.v3.businesscircle.userAuthorizations._openid_
  .get({ params: { appid: told.parking.appid }, openid: told.parking.openid });
say("authorization", authorization.data);
const pending = await wxpay.v3.businesscircle.users.$openid$.points.commit_status
  .get({ params: { appid: told.parking.appid, brandid: told.parking.brandid }, openid: told.parking.openid });
say("commit status", pending.data);

// The way of its own certificate downloader: nothing is trusted before the answer is opened.
const held = { any: undefined };
const bootstrap = client(told.private_key_pem, held);
const list = await bootstrap.v3.certificates.get({
  transformResponse: [
    (text) => {
      for (const { serial_no, encrypt_certificate: { nonce, associated_data, ciphertext } } of JSON.parse(text).data) {
        bootstrap.client.v3.defaults.certs[serial_no] = held[serial_no] =
          Rsa.from(AesGcm.decrypt(ciphertext, told.api_v3_key, nonce, associated_data), Rsa.KEY_TYPE_PUBLIC);
      }
      return text;
    },
    (text, hdrs) => {
      const [time, nonce, serial, signature] = ["timestamp", "nonce", "serial", "signature"].map((name) => hdrs.get(`wechatpay-${name}`));
      say("bootstrap", { verified: Rsa.verify(Formatter.response(time, nonce, text), signature, held[serial]) });
      return text;
    },
    JSON.parse,
  ],
});
say("certificates", { serials: list.data.data.map((entry) => entry.serial_no) });

const secret = Rsa.encrypt("你好", Rsa.from(told.public_key_pem, Rsa.KEY_TYPE_PUBLIC));
const echo = await wxpay.v3.security.echo.post({ echo_message: "hello", encrypted_echo_message: secret }, { headers });
say("echo", { opened: Rsa.decrypt(echo.data.encrypted_echo_message, Rsa.from(told.private_key_pem)) });

say("spoil");
await new Promise((go) => process.stdin.once("data", go));
await wxpay.v3.businesscircle.parkings.post(state()).catch((error) => say("spoilt", { code: error.code }));

const server = createServer(async (request, response) => {
  let body = "";
  for await (const piece of request.setEncoding("utf8")) body += piece;
  const header = (name) => request.headers[`wechatpay-${name}`];
  const signed = Formatter.response(header("timestamp"), header("nonce"), body);
  if (!Rsa.verify(signed, header("signature"), Rsa.from(certs()[header("serial")], Rsa.KEY_TYPE_PUBLIC))) {
    response.writeHead(401).end('{"code":"FAIL","message":"验签失败"}');
    return;
  }
  const { resource } = JSON.parse(body);
  say("callback", JSON.parse(AesGcm.decrypt(resource.ciphertext, told.api_v3_key, resource.nonce, resource.associated_data)));
  response.writeHead(200, { "content-type": "application/json" }).end('{"code":"SUCCESS","message":"成功"}');
});
server.listen(0, "127.0.0.1", () => say("listening", { port: server.address().port }));
