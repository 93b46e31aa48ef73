// 上报一辆车 · Reports one car to the sandbox with nothing but Go: go run park.go
package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func file(name string) []byte { return must(os.ReadFile("../keys/" + name)) }

func der(name string) []byte {
	block, _ := pem.Decode(file(name))
	return block.Bytes
}

func main() {
	const path = "/v3/businesscircle/parkings"
	body := must(json.Marshal(map[string]any{
		"brandid":      {{brandid}},
		"appid":        "{{appid}}",
		"openid":       "oUpF8uMuAJOM2pxb1Q",
		"plate_number": "粤B888888",
		"state":        "IN",
		"time":         time.Now().Format(time.RFC3339),
	}))
	random := make([]byte, 16)
	must(rand.Read(random))
	nonce, timestamp := hex.EncodeToString(random), time.Now().Unix()
	digest := sha256.Sum256([]byte(fmt.Sprintf("POST\n%s\n%d\n%s\n%s\n", path, timestamp, nonce, body)))
	key := must(x509.ParsePKCS8PrivateKey(der("apiclient_key.pem"))).(*rsa.PrivateKey)
	signature := must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:]))

	request := must(http.NewRequest("POST", "{{base_url}}"+path, bytes.NewReader(body)))
	request.Header.Set("Authorization", fmt.Sprintf(
		`WECHATPAY2-SHA256-RSA2048 mchid="{{mchid}}",nonce_str="%s",signature="%s",timestamp="%d",serial_no="{{serial_no}}"`,
		nonce, base64.StdEncoding.EncodeToString(signature), timestamp))
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Wechatpay-Serial", "{{public_key_id}}")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(file("sandbox-ca.pem"))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	reply := must(client.Do(request))
	answer := must(io.ReadAll(reply.Body))
	fmt.Println(reply.StatusCode, string(answer))
	if reply.StatusCode >= 300 {
		os.Exit(1) // 拒绝的应答可能没有签名 · A refusal may come unsigned.
	}

	signed := fmt.Sprintf("%s\n%s\n%s\n", reply.Header.Get("Wechatpay-Timestamp"), reply.Header.Get("Wechatpay-Nonce"), answer)
	digest = sha256.Sum256([]byte(signed))
	raw := must(base64.StdEncoding.DecodeString(reply.Header.Get("Wechatpay-Signature")))
	public := must(x509.ParsePKIXPublicKey(der("pub_key.pem"))).(*rsa.PublicKey)
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], raw); err != nil {
		log.Fatal("signature BAD: ", err)
	}
	fmt.Println("signature good")
}
