// 上报一辆车 · Reports one car to the sandbox, the signature by hand: cargo run, in this folder.
// Over plain HTTP on the loopback, so that it needs no HTTP and no TLS crate.
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PATH: &str = "/v3/businesscircle/parkings";

fn der(name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pem = fs::read_to_string(format!("../../keys/{name}"))?;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    Ok(STANDARD.decode(text)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)?;
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // A time in the past is as good as now; a real client writes its own clock's.
    let body = r#"{"brandid":{{brandid}},"appid":"{{appid}}","openid":"oUpF8uMuAJOM2pxb1Q","plate_number":"粤B888888","state":"IN","time":"2024-07-04T15:30:00+08:00"}"#;
    let message = format!("POST\n{PATH}\n{timestamp}\n{nonce}\n{body}\n");
    let key = RsaKeyPair::from_pkcs8(&der("apiclient_key.pem")?)?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)?;

    let authority = "{{http_url}}".trim_start_matches("http://");
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\naccept: application/json\r\nuser-agent: park\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nwechatpay-serial: {{public_key_id}}\r\n\
         authorization: WECHATPAY2-SHA256-RSA2048 mchid=\"{{mchid}}\",nonce_str=\"{nonce}\",signature=\"{}\",timestamp=\"{timestamp}\",serial_no=\"{{serial_no}}\"\r\n\r\n{body}",
        body.len(),
        STANDARD.encode(signature),
    );
    let mut stream = TcpStream::connect(authority)?;
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, answer) = reply.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    println!("{status} {answer}");
    if !status.starts_with('2') {
        std::process::exit(1); // 拒绝的应答可能没有签名 · A refusal may come unsigned.
    }

    let header = |name: &str| {
        let found = head.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    };
    let signed = format!("{}\n{}\n{answer}\n", header("wechatpay-timestamp"), header("wechatpay-nonce"));
    let signature = STANDARD.decode(header("wechatpay-signature"))?;
    let good = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der("pub_key.pem")?).verify(signed.as_bytes(), &signature);
    println!("signature {}", if good.is_ok() { "good" } else { "BAD" });
    Ok(())
}
