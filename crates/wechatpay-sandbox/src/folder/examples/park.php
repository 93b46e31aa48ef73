<?php
// 上报一辆车 · Reports one car to the sandbox with the curl and openssl extensions: php park.php
declare(strict_types=1);

$keys = __DIR__ . '/../keys/';
$path = '/v3/businesscircle/parkings';
$body = json_encode([
    'brandid' => {{brandid}},
    'appid' => '{{appid}}',
    'openid' => 'oUpF8uMuAJOM2pxb1Q',
    'plate_number' => '粤B888888',
    'state' => 'IN',
    'time' => date(DATE_RFC3339),
], JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
$timestamp = (string) time();
$nonce = bin2hex(random_bytes(16));
openssl_sign("POST\n$path\n$timestamp\n$nonce\n$body\n", $raw, file_get_contents($keys . 'apiclient_key.pem'), OPENSSL_ALGO_SHA256);
$signature = base64_encode($raw);

$headers = [];
$call = curl_init('{{base_url}}' . $path);
curl_setopt_array($call, [
    CURLOPT_POSTFIELDS => $body,
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_CAINFO => $keys . 'sandbox-ca.pem',
    CURLOPT_USERAGENT => 'park.php',
    CURLOPT_HTTPHEADER => [
        "Authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"{{mchid}}\",nonce_str=\"$nonce\",signature=\"$signature\",timestamp=\"$timestamp\",serial_no=\"{{serial_no}}\"",
        'Accept: application/json',
        'Content-Type: application/json',
        'Wechatpay-Serial: {{public_key_id}}',
    ],
    CURLOPT_HEADERFUNCTION => function ($call, string $line) use (&$headers): int {
        [$name, $value] = array_pad(explode(':', $line, 2), 2, '');
        $headers[strtolower($name)] = trim($value);
        return strlen($line);
    },
]);
$answer = curl_exec($call);
if ($answer === false) {
    exit(curl_error($call) . PHP_EOL);
}
$status = curl_getinfo($call, CURLINFO_RESPONSE_CODE);
echo $status, ' ', $answer, PHP_EOL;
if ($status >= 300) {
    exit(1); // 拒绝的应答可能没有签名 · A refusal may come unsigned.
}

$signed = ($headers['wechatpay-timestamp'] ?? '') . "\n" . ($headers['wechatpay-nonce'] ?? '') . "\n$answer\n";
$good = openssl_verify($signed, base64_decode($headers['wechatpay-signature'] ?? ''), file_get_contents($keys . 'pub_key.pem'), OPENSSL_ALGO_SHA256);
echo $good === 1 ? 'signature good' : 'signature BAD', PHP_EOL;
