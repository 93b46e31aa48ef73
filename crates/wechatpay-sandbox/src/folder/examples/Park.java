// 上报一辆车 · Reports one car to the sandbox with nothing but a JDK from 11 on: java Park.java
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Signature;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.OffsetDateTime;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.Base64;
import java.util.UUID;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Park {
    static final Path KEYS = Path.of("..", "keys");

    static byte[] der(String name) throws Exception {
        String pem = Files.readString(KEYS.resolve(name)).replaceAll("-----.*?-----|\\s", "");
        return Base64.getDecoder().decode(pem);
    }

    static SSLContext trust() throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (var in = Files.newInputStream(KEYS.resolve("sandbox-ca.pem"))) {
            roots.setCertificateEntry("sandbox", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }

    public static void main(String[] arguments) throws Exception {
        String path = "/v3/businesscircle/parkings";
        String time = OffsetDateTime.now().truncatedTo(ChronoUnit.SECONDS).format(DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ssXXX"));
        String body = "{\"brandid\":{{brandid}},\"appid\":\"{{appid}}\",\"openid\":\"oUpF8uMuAJOM2pxb1Q\","
            + "\"plate_number\":\"粤B888888\",\"state\":\"IN\",\"time\":\"" + time + "\"}";
        long timestamp = System.currentTimeMillis() / 1000;
        String nonce = UUID.randomUUID().toString().replace("-", "");
        Signature signer = Signature.getInstance("SHA256withRSA");
        signer.initSign(KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(der("apiclient_key.pem"))));
        signer.update(("POST\n" + path + "\n" + timestamp + "\n" + nonce + "\n" + body + "\n").getBytes(StandardCharsets.UTF_8));
        String signature = Base64.getEncoder().encodeToString(signer.sign());

        HttpRequest request = HttpRequest.newBuilder(URI.create("{{base_url}}" + path))
            .header("Authorization", "WECHATPAY2-SHA256-RSA2048 mchid=\"{{mchid}}\",nonce_str=\"" + nonce + "\",signature=\""
                + signature + "\",timestamp=\"" + timestamp + "\",serial_no=\"{{serial_no}}\"")
            .header("Accept", "application/json")
            .header("Content-Type", "application/json")
            .header("Wechatpay-Serial", "{{public_key_id}}")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> reply = HttpClient.newBuilder().sslContext(trust()).build()
            .send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(reply.statusCode() + " " + reply.body());
        if (reply.statusCode() >= 300) {
            System.exit(1); // 拒绝的应答可能没有签名 · A refusal may come unsigned.
        }

        String signed = reply.headers().firstValue("Wechatpay-Timestamp").orElse("") + "\n"
            + reply.headers().firstValue("Wechatpay-Nonce").orElse("") + "\n" + reply.body() + "\n";
        Signature verifier = Signature.getInstance("SHA256withRSA");
        verifier.initVerify(KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(der("pub_key.pem"))));
        verifier.update(signed.getBytes(StandardCharsets.UTF_8));
        boolean good = verifier.verify(Base64.getDecoder().decode(reply.headers().firstValue("Wechatpay-Signature").orElse("")));
        System.out.println(good ? "signature good" : "signature BAD");
    }
}
