//! Files on their way to WeChat Pay (上传图片, 上传视频).
//!
//! Lives here: the file, its `meta` and the multipart body, pure. Does not live here: sending (`request`, the only caller).
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012365335>.

use bytes::Bytes;
use serde::Serialize;

use crate::request::BodyError;
use crate::seal::sha256_hex;

/// A file to upload, with the `meta` that is signed for it.
///
/// ```no_run
/// # async fn example(client: wechatpay::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use wechatpay::Upload;
///
/// let image = Upload::new("licence.jpg", "image/jpeg", std::fs::read("licence.jpg")?);
/// let answer = client.chain("v3/merchant/media/upload").upload(&image).await?;
/// let media_id = &answer.json::<serde_json::Value>()?["media_id"];
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Upload {
    filename: String,
    content_type: String,
    bytes: Bytes,
    pub(crate) meta: Bytes,
}

#[derive(Serialize)]
struct Meta<'a> {
    filename: &'a str,
    sha256: String,
}

impl Upload {
    /// A file with the usual `meta`: its name and its SHA-256 digest.
    pub fn new(filename: impl Into<String>, content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Upload {
        let (filename, bytes) = (filename.into(), bytes.into());
        let meta = Meta {
            filename: &filename,
            sha256: sha256_hex(&bytes),
        };
        let meta = serde_json::to_vec(&meta).expect("two texts are always JSON");
        Upload {
            content_type: content_type.into(),
            meta: meta.into(),
            filename,
            bytes,
        }
    }

    /// Another `meta`, for endpoints that want more in it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn meta<M: Serialize + ?Sized>(mut self, meta: &M) -> Result<Upload, serde_json::Error> {
        self.meta = serde_json::to_vec(meta)?.into();
        Ok(self)
    }

    /// Names stand in the header of a part: a quote or a line end would end it early.
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '"' || c == '\\');
        if !plain(&self.filename) {
            return Err(BodyError::Header(
                "filename".into(),
                "is empty, or has a quote or a control character",
            ));
        }
        if !plain(&self.content_type) {
            return Err(BodyError::Header(
                "content type".into(),
                "is empty, or has a quote or a control character",
            ));
        }
        Ok(())
    }

    /// A line that is not in the file: made from its digest.
    pub(crate) fn boundary(&self) -> String {
        sha256_hex(
            &[&self.meta, &self.bytes]
                .map(|part| sha256_hex(part))
                .concat()
                .into_bytes(),
        )
    }

    pub(crate) fn body(&self, boundary: &str) -> Bytes {
        let Upload {
            filename,
            content_type,
            bytes,
            meta,
        } = self;
        let mut body = Vec::with_capacity(bytes.len() + meta.len() + 512);
        body.extend_from_slice(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"meta\";\r\nContent-Type: application/json\r\n\r\n"
            )
            .as_bytes(),
        );
        body.extend_from_slice(meta);
        body.extend_from_slice(
            format!(
                "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\";\r\n\
                 Content-Type: {content_type}\r\n\r\n"
            )
            .as_bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_both_parts_and_the_meta_names_the_digest() {
        let upload = Upload::new("a.jpg", "image/jpeg", &b"\x00\xff"[..]);
        let body = upload.body("B");

        let digest = sha256_hex(b"\x00\xff");
        assert_eq!(upload.meta, format!(r#"{{"filename":"a.jpg","sha256":"{digest}"}}"#));
        let expected = format!(
            "--B\r\nContent-Disposition: form-data; name=\"meta\";\r\nContent-Type: application/json\r\n\r\n\
             {{\"filename\":\"a.jpg\",\"sha256\":\"{digest}\"}}\r\n\
             --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\";\r\nContent-Type: image/jpeg\r\n\r\n"
        );
        assert_eq!(body, [expected.as_bytes(), b"\x00\xff\r\n--B--\r\n"].concat());
    }

    #[test]
    fn names_that_would_break_the_part_are_refused() {
        for (name, kind) in [
            ("a\"b", "x/y"),
            ("a\nb", "x/y"),
            ("", "x/y"),
            ("a", "x\r\ny"),
            ("a", ""),
        ] {
            assert!(Upload::new(name, kind, &b""[..]).check().is_err(), "{name:?} {kind:?}");
        }
        assert!(Upload::new("营业执照.jpg", "image/jpeg", &b""[..]).check().is_ok());
    }
}
