//! Images, sounds and files as this dialect carries them: `data:` URLs, remote URLs, bare base64.
//!
//! What is inline is checked here, once, because the host writes it into the vendor's body later
//! without another look. Nothing is fetched and nothing is decoded: the check is one pass over the
//! characters, and the content is copied once.

use keyward::operation::MediaSource;

/// Bytes of a remote URL. Signed URLs of object stores stay below 4 KiB.
const MAX_URL: usize = 16 * 1024;

/// Bytes of a media type; the longest registered ones have some 90.
const MAX_MEDIA_TYPE: usize = 127;

/// Where an image or a film is: inline, with its media type, or at a URL.
///
/// # Errors
/// What is wrong with it, in words.
pub fn from_url(url: &str) -> Result<(String, MediaSource), String> {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        "data" => from_data_url(url),
        // Only what a vendor can fetch for itself. Some servers open `file:` URLs.
        "http" | "https" | "gs" | "s3" => {
            let host = url[scheme.len()..].strip_prefix("://").unwrap_or_default();
            if host.is_empty() || host.starts_with('/') {
                return Err(format!("expected a host after '{scheme}://'"));
            }
            if url.len() > MAX_URL {
                return Err(format!("the URL is longer than {MAX_URL} bytes"));
            }
            if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err("a URL holds no spaces or control characters".into());
            }
            Ok((String::new(), MediaSource::Url(url.into())))
        }
        _ => Err("expected a URL that begins with https:, http:, gs:, s3: or data:".into()),
    }
}

/// The media type and the base64 of `data:image/png;base64,iVBOR…`.
///
/// # Errors
/// If it isn't a `data:` URL in base64 with a media type.
pub fn from_data_url(url: &str) -> Result<(String, MediaSource), String> {
    const FORM: &str = "expected 'data:<media type>;base64,<data>'";
    let rest = match url.split_at_checked(5) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("data:") => rest,
        _ => return Err(FORM.into()),
    };
    let (head, data) = rest.split_once(',').ok_or(FORM)?;
    let (head, encoding) = head.rsplit_once(';').ok_or(FORM)?;
    if !encoding.eq_ignore_ascii_case("base64") {
        return Err(FORM.into());
    }
    let media_type = head.split(';').next().unwrap_or_default().to_ascii_lowercase();
    check_media_type(&media_type)?;
    check_base64(data)?;
    Ok((media_type, MediaSource::Base64(data.into())))
}

/// # Errors
/// If it isn't two names with a slash between them.
pub fn check_media_type(media_type: &str) -> Result<(), String> {
    let name = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match media_type.split_once('/') {
        Some((kind, subtype))
            if media_type.len() <= MAX_MEDIA_TYPE && name(kind) && name(subtype) =>
        {
            Ok(())
        }
        _ => Err("expected a media type such as 'image/png'".into()),
    }
}

/// # Errors
/// If it isn't standard base64 with padding.
pub fn check_base64(data: &str) -> Result<(), String> {
    const ALPHABET: [bool; 256] = {
        let mut table = [false; 256];
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut at = 0;
        while at < letters.len() {
            table[letters[at] as usize] = true;
            at += 1;
        }
        table
    };
    if data.is_empty() {
        return Err("the base64 data is empty".into());
    }
    if !data.len().is_multiple_of(4) {
        return Err("the base64 data is cut off: its length isn't a multiple of 4".into());
    }
    let body = data.strip_suffix("==").or_else(|| data.strip_suffix('=')).unwrap_or(data);
    match body.bytes().position(|byte| !ALPHABET[usize::from(byte)]) {
        None => Ok(()),
        Some(at) => Err(format!(
            "expected standard base64 (A-Z, a-z, 0-9, '+', '/', padded with '='), which byte {at} isn't"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart() {
        for (url, media_type, data) in [
            ("data:image/png;base64,iVBORw0KGgo=", "image/png", "iVBORw0KGgo="),
            ("DATA:Image/PNG;BASE64,AAAA", "image/png", "AAAA"),
            ("data:application/pdf;name=a.pdf;base64,QQ==", "application/pdf", "QQ=="),
            ("data:image/svg+xml;base64,PHN2Zz4=", "image/svg+xml", "PHN2Zz4="),
        ] {
            let (found, source) = from_url(url).unwrap();
            assert_eq!(found, media_type);
            assert!(matches!(source, MediaSource::Base64(text) if &*text == data), "{url}");
        }
    }

    #[test]
    fn remote_urls_stay_as_they_are() {
        for url in ["https://example.org/a.png?x=1&y=%20", "http://127.0.0.1/a", "gs://bucket/a"] {
            let (media_type, source) = from_url(url).unwrap();
            assert_eq!(media_type, "");
            assert!(matches!(source, MediaSource::Url(text) if &*text == url));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "image.png",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "ftp://example.org/a",
            "https:example.org",
            "https:///a",
            "https://example.org/a b",
            "https://example.org/a\r\nx: y",
            "data:",
            "data:image/png,AAAA",
            "data:;base64,AAAA",
            "data:png;base64,AAAA",
            "data:image/png;base64,",
            "data:image/png;base64,AAA",
            "data:image/png;base64,A===",
            "data:image/png;base64,AA=A",
            "data:image/png;base64,AA_-",
            "data:image/png;base64,AAAA\nAAAA",
            "data:image/png;base64,AAA\"",
            "data:image/\"x;base64,AAAA",
            "dätä:image/png;base64,AAAA",
        ] {
            assert!(from_url(url).is_err(), "{url:?} was taken");
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX_URL));
        assert!(from_url(&long).is_err());
    }
}
