//! Names of files.

use super::shown;

/// Bytes of a file's name: what file systems take.
const MAX_BYTES: usize = 255;
/// Bytes of an extension that are kept when a name is cut.
const EXTENSION_MAX_BYTES: usize = 16;
/// Where nothing of the name is left.
const NAMELESS: &str = "file";

/// A file's name as it is shown and offered for download: in NFC, without path parts, control characters and
/// invisible characters, 1 to 255 bytes. Names that differ only in case are different names.
#[must_use]
pub fn file_name(sent: &str) -> String {
    file_name_within(sent, MAX_BYTES)
}

/// The same, of at most so many bytes, 64 or more.
#[must_use]
pub fn file_name_within(sent: &str, max_bytes: usize) -> String {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = shown(&visible);
    // Names of dots alone mean folders.
    if name.chars().all(|c| c == '.') {
        return NAMELESS.to_owned();
    }
    if name.len() <= max_bytes {
        return name;
    }
    let extension = name.rfind('.').and_then(|dot| name.get(dot..));
    let extension = extension.filter(|extension| extension.len() <= EXTENSION_MAX_BYTES);
    let extension = extension.unwrap_or_default();
    let stem_end = name.floor_char_boundary(max_bytes.saturating_sub(extension.len()));
    [name.get(..stem_end).unwrap_or_default(), extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parts_and_invisible_characters_go() {
        for (sent, kept) in [
            ("photo.jpg", "photo.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\a.txt", "a.txt"),
            ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
            ("image:1000004711", "image:1000004711"),
            ("cafe\u{301}.txt", "café.txt"),
            ("Photo.JPG", "Photo.JPG"),
            ("gpj.\u{202e}exe", "gpj.exe"),
            ("𝄞 🎵.mp3", "𝄞 🎵.mp3"),
            ("  ", "file"),
            ("..", "file"),
            ("dir/", "file"),
            ("", "file"),
        ] {
            assert_eq!(file_name(sent), kept, "{sent:?}");
        }
    }

    #[test]
    fn long_names_are_cut_before_their_extension() {
        let name = file_name(&format!("{}.jpeg", "é".repeat(200)));
        assert!(name.len() <= MAX_BYTES && name.ends_with("é.jpeg"), "{name}");
        let name = file_name(&"x".repeat(300));
        assert_eq!(name.len(), MAX_BYTES);
        let name = file_name(&format!("a.{}", "x".repeat(300)));
        assert_eq!(name.len(), MAX_BYTES);
    }
}
