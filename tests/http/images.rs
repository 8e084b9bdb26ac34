//! Variants of images over HTTP: made by a process of their own, once, and only for whoever may read the file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chatto::limits::{IMAGE_MEMORY_SMALL_MAX_BYTES, IMAGE_PIXELS_MAX, IMAGE_QUEUE_MAX};
use chatto::media::detect;
use chatto::media::image;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::files::Chat;
use super::support::{Edge, PATIENCE};
use crate::support::images;

/// A photo of random colours, taken with the camera on its side.
pub(super) fn photo(width: u16, height: u16, is_progressive: bool) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let pixels: Vec<u8> =
        (0..usize::from(width) * usize::from(height) * 3).map(|_| random.u8(..)).collect();
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 60);
    encoder.set_progressive(is_progressive);
    let turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    encoder.add_exif_metadata(turned).unwrap();
    encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb).unwrap();
    file
}

fn thumbnail(asset: &Value) -> &str {
    asset["thumbnailAssetUrl"]["url"].as_str().unwrap()
}

/// A program in front of the worker that notes each start and end.
struct Watched {
    directory: TempDir,
}

impl Watched {
    /// `work` is shell; `"$@"` runs the worker.
    fn new(work: &str) -> (Self, image::Config) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("worker");
        let (log, worker) = (directory.path().join("log"), images().program);
        let script = format!(
            "#!/bin/sh\nset -- {} \"$@\"\necho start >> {log}\n{work}\nstatus=$?\necho end >> {log}\nexit $status\n",
            worker.display(),
            log = log.display(),
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (Self { directory }, image::Config { program, ..images() })
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_variant_is_made_once_and_sent_like_a_file() {
    let (watched, config) = Watched::new("\"$@\"");
    let chat = Chat::on(Edge::start_with_images(config));
    let asset = chat.upload("IMG_1.JPEG", &photo(400, 300, false));
    assert_eq!((&asset["width"], &asset["height"]), (&json!(300), &json!(400)));
    let response = chat.edge.get(thumbnail(&asset), &[]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("image/jpeg")));
    assert_eq!(response.header("cache-control"), Some("private, no-cache"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert!(response.header("content-disposition").unwrap().contains("\"IMG_1.jpg\""));
    let made = detect(&response.body);
    assert_eq!((made.content_type, made.width, made.height), ("image/jpeg", 300, 400));
    assert!(!response.body.windows(4).any(|window| window == b"Exif"));

    let tag = response.header("etag").unwrap();
    assert_eq!(chat.edge.get(thumbnail(&asset), &[("If-None-Match", tag)]).status, 304);
    let part = chat.edge.get(thumbnail(&asset), &[("Range", "bytes=2-5"), ("If-Range", tag)]);
    assert_eq!((part.status, part.body.as_slice()), (206, &response.body[2..6]));
    assert_eq!(watched.log(), ["start", "end"]);

    // Cut to a square, for a list of files.
    let cover = json!({"roomId": chat.room, "assetIds": [asset["id"]], "thumbnail":
        {"width": 120, "height": 120, "fit": "IMAGE_FIT_MODE_COVER"}});
    let listed = chat.edge.call_ok(&chat.token, "AssetService/BatchGetAssets", &cover);
    let square = chat.edge.get(thumbnail(&listed["assets"][0]), &[]);
    let made = detect(&square.body);
    assert_eq!((made.width, made.height), (120, 120), "{}", thumbnail(&listed["assets"][0]));
}

#[test]
fn on_a_small_board_two_images_are_never_made_at_once() {
    let (watched, config) = Watched::new("\"$@\"");
    let chat = Chat::on(Edge::start_with_images(config));
    let file = photo(800, 600, true);
    let assets: Vec<Value> =
        (0..6).map(|number| chat.upload(&format!("{number}.jpg"), &file)).collect();
    std::thread::scope(|scope| {
        for asset in &assets {
            // Each twice: the second waits for the first and finds what it made.
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(chat.edge.get(thumbnail(asset), &[]).status, 200));
            }
        }
    });
    let log = watched.log();
    assert_eq!(log.len(), 12, "{log:?}");
    assert!(log.as_chunks::<2>().0.iter().all(|pair| pair == &["start", "end"]), "{log:?}");
}

#[test]
fn an_image_whose_decoding_ends_badly_is_shown_as_it_is_and_not_tried_again() {
    // Out of memory, out of processor time.
    for signal in ["ABRT", "XCPU"] {
        let (watched, config) = Watched::new(&format!("kill -{signal} $$"));
        let chat = Chat::on(Edge::start_with_images(config));
        show_thrice(&chat);
        assert_eq!(watched.log(), ["start"]);
    }
}

/// The kernel does so when the machine is short of memory.
#[test]
fn an_image_whose_worker_is_killed_is_shown_as_it_is_and_tried_again() {
    let (watched, config) = Watched::new("kill -KILL $$");
    let chat = Chat::on(Edge::start_with_images(config));
    show_thrice(&chat);
    assert_eq!(watched.log(), ["start"; 3]);
}

/// Three requests for the thumbnail of a photo, each of which gets the photo.
fn show_thrice(chat: &Chat) {
    let file = photo(64, 64, false);
    let asset = chat.upload("a.jpg", &file);
    for _ in 0..3 {
        let response = chat.edge.get(thumbnail(&asset), &[]);
        assert_eq!(response.status, 200);
        assert!(response.body == file);
    }
}

#[test]
fn images_that_no_decoder_reads_are_shown_as_they_are() {
    let chat = Chat::start();
    let mut bomb = Vec::new();
    drop(png::Encoder::new(&mut bomb, 60_000, 60_000).write_header().unwrap());
    let truncated = photo(64, 64, false)[..600].to_vec();
    for (name, file, content_type) in [
        ("bomb.png", bomb.as_slice(), "image/png"),
        ("cut.jpg", &truncated, "image/jpeg"),
        ("page.gif", b"GIF89a\x04\0\x04\0<script>alert(1)</script>", "image/gif"),
    ] {
        let asset = chat.upload(name, file);
        let response = chat.edge.get(thumbnail(&asset), &[]);
        assert_eq!((response.status, response.header("content-type")), (200, Some(content_type)));
        assert!(response.body == file);
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(chat.upload("empty.png", b"")["thumbnailAssetUrl"], Value::Null);
}

#[test]
fn a_deleted_file_has_no_variant() {
    let chat = Chat::start();
    let asset = chat.upload("a.jpg", &photo(64, 64, false));
    let message = json!({"roomId": chat.room, "attachmentAssetIds": [asset["id"]]});
    let created = chat.edge.call_ok(&chat.token, "MessageService/CreateMessage", &message);
    let made = chat.edge.get(thumbnail(&asset), &[]);
    assert_eq!(made.status, 200);
    let delete = json!({"roomId": chat.room, "eventId": created["message"]["id"]});
    chat.edge.call_ok(&chat.token, "MessageService/DeleteMessage", &delete);
    assert_eq!(chat.edge.get(thumbnail(&asset), &[]).status, 404);
}

/// A scene as a camera takes it, row by row, so that the test never has all of it.
struct Scene(u16, u16);

impl jpeg_encoder::ImageBuffer for Scene {
    fn get_jpeg_color_type(&self) -> jpeg_encoder::JpegColorType {
        jpeg_encoder::JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.0
    }

    fn height(&self) -> u16 {
        self.1
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        for (buffer, shift) in buffers.iter_mut().zip([5, 6, 7]) {
            buffer.extend((0..self.0).map(|x| ((x ^ y) >> shift) as u8));
        }
    }
}

/// What phones make: 12, 48 and 50 megapixels.
#[test]
fn large_photos_are_resized_on_a_small_board() {
    for (width, height) in [(4_000, 3_000), (8_000, 6_000), (8_160, 6_120)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let encoder = jpeg_encoder::Encoder::new(fs::File::create(file.path()).unwrap(), 80);
        encoder.encode_image(Scene(width, height)).unwrap();
        let made = Command::new(images().program)
            .args([image::WORKER_ARGUMENT, "960", "400", "contain", "moving"])
            .args([IMAGE_MEMORY_SMALL_MAX_BYTES.to_string(), IMAGE_PIXELS_MAX.to_string()])
            .stdin(fs::File::open(file.path()).unwrap())
            .envs(image::WORKER_ENVIRONMENT)
            .output()
            .unwrap();
        assert!(made.status.success(), "{width} × {height}: {}", made.status);
        let (kind, image) = made.stdout.split_first().unwrap();
        assert_eq!((*kind, detect(image).width, detect(image).height), (b'J', 533, 400));
    }
}

#[test]
fn an_image_of_more_pixels_than_the_settings_allow_is_not_decoded() {
    let (watched, config) = Watched::new("\"$@\"");
    let limits = image::DecoderLimits { pixels_max: 200 * 100, ..config.limits };
    let chat = Chat::on(Edge::start_with_images(image::Config { limits, ..config }));
    let large = photo(200, 101, false);
    let shown = chat.edge.get(thumbnail(&chat.upload("large.jpg", &large)), &[]);
    assert_eq!((shown.status, shown.body == large), (200, true));
    let avatar = |file: &[u8]| {
        let body = json!({"image": {"image": STANDARD.encode(file)}});
        chat.edge.call(&chat.token, "MyAccountService/UploadAvatar", &body)
    };
    let refused = avatar(&large);
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("invalid_argument")));
    assert!(refused.text().contains("too many pixels"), "{}", refused.text());
    assert_eq!(watched.log(), [""; 0]);
    assert_eq!(avatar(&photo(200, 100, false)).status, 200);
    assert_eq!(watched.log(), ["start", "end"]);
}

/// One image is being made, and as many requests wait as may.
#[test]
fn a_request_for_which_there_is_no_place_in_the_queue_is_told_to_come_later() {
    // Each reader of the pipe waits until somebody writes.
    let (watched, config) =
        Watched::new(r#"[ -e "${0%/*}/open" ] || read -r _ < "${0%/*}/pipe"; "$@""#);
    let pipe = watched.directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let chat = Chat::on(Edge::start_with_images(config));
    let asset = chat.upload("a.jpg", &photo(64, 64, false));
    let refused = 5;
    std::thread::scope(|scope| {
        let (tx, rx) = mpsc::channel();
        for _ in 0..1 + IMAGE_QUEUE_MAX + refused {
            let (tx, chat, asset) = (tx.clone(), &chat, &asset);
            scope.spawn(move || tx.send(chat.edge.get(thumbnail(asset), &[])).unwrap());
        }
        for _ in 0..refused {
            let response = rx.recv_timeout(PATIENCE).unwrap();
            assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
            assert_eq!(response.body, b"");
        }
        let image = json!({"image": {"image": STANDARD.encode(photo(64, 64, false))}});
        let response = chat.edge.call(&chat.token, "MyAccountService/UploadAvatar", &image);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        assert_eq!(response.json()["code"], "unavailable");
        fs::write(watched.directory.path().join("open"), "").unwrap();
        fs::write(&pipe, "\n").unwrap();
        for _ in 0..=IMAGE_QUEUE_MAX {
            assert_eq!(rx.recv_timeout(PATIENCE).unwrap().status, 200);
        }
    });
    assert_eq!(watched.log(), ["start", "end"], "those that waited found it");
}

#[test]
fn a_worker_that_takes_more_memory_is_ended() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // The coefficients of a progressive JPEG take two bytes for each value: 12 MB.
    fs::write(file.path(), photo(2_000, 1_000, true)).unwrap();
    let run = |memory: usize| {
        Command::new(images().program)
            .args([image::WORKER_ARGUMENT, "96", "40", "contain", "moving", &memory.to_string()])
            .arg(IMAGE_PIXELS_MAX.to_string())
            .stdin(fs::File::open(file.path()).unwrap())
            .stderr(Stdio::null())
            .envs(image::WORKER_ENVIRONMENT)
            .output()
            .unwrap()
    };
    let enough = run(IMAGE_MEMORY_SMALL_MAX_BYTES);
    assert!(enough.status.success());
    assert_eq!(enough.stdout.first(), Some(&b'J'));
    let ended = run(4 << 20);
    assert!(!ended.status.success() && ended.stdout.is_empty());
}

/// The key of the address in a user's `avatarUrl`.
fn avatar_path(user: &Value) -> String {
    let url = user["avatarUrl"].as_str().unwrap();
    format!("/assets/server/{}", url.split_once("/assets/server/").unwrap().1)
}

#[test]
fn an_avatar_is_a_small_square_that_everybody_may_keep() {
    let chat = Chat::start();
    let upload = |file: &[u8]| {
        // The client's name and type of it count for nothing.
        let image = json!({"image": STANDARD.encode(file), "filename": "a.txt"});
        let body = json!({"image": image});
        chat.edge.call(&chat.token, "MyAccountService/UploadAvatar", &body)
    };
    let first = upload(&photo(400, 300, false));
    assert_eq!(first.status, 200, "{}", first.text());
    let user = first.json()["user"].clone();
    let path = avatar_path(&user);
    let response = chat.edge.get(&path, &[]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("image/jpeg")));
    let cache = response.header("cache-control");
    assert_eq!(cache, Some("public, max-age=31536000, immutable"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    let made = detect(&response.body);
    assert_eq!((made.content_type, made.width, made.height), ("image/jpeg", 256, 256));
    let seen = json!({"userId": user["id"]});
    let seen = chat.edge.call_ok(&chat.token, "UserService/GetUser", &seen);
    assert_eq!(seen["user"]["user"]["avatarUrl"], user["avatarUrl"]);

    let next = upload(&photo(64, 32, false)).json()["user"].clone();
    assert_ne!(avatar_path(&next), path);
    assert_eq!(chat.edge.get(&path, &[]).status, 404, "the former one is gone");
    assert_eq!(detect(&chat.edge.get(&avatar_path(&next), &[]).body).width, 32);

    let cut = photo(64, 64, false)[..600].to_vec();
    for broken in [b"".as_slice(), b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", &cut] {
        let refused = upload(broken);
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("invalid_argument")));
    }
    assert_eq!(chat.edge.get(&avatar_path(&next), &[]).status, 200);

    for _ in 0..2 {
        let user = chat.edge.call_ok(&chat.token, "MyAccountService/DeleteAvatar", &json!({}));
        assert_eq!(user["user"]["avatarUrl"], Value::Null);
    }
    assert_eq!(chat.edge.get(&avatar_path(&next), &[]).status, 404);
}

#[test]
fn files_of_rooms_are_no_public_images_and_the_reverse() {
    let chat = Chat::start();
    let asset = chat.upload("a.jpg", &photo(64, 64, false));
    let path = format!("/assets/server/{}", asset["id"].as_str().unwrap());
    assert_eq!(chat.edge.get(&path, &[]).status, 404);
    assert_eq!(chat.edge.get("/assets/server/nonsense", &[]).status, 404);
    let image = json!({"image": {"image": STANDARD.encode(photo(64, 64, false))}});
    let user = chat.edge.call_ok(&chat.token, "MyAccountService/UploadAvatar", &image);
    let path = avatar_path(&user["user"]).replace("/server/", "/files/");
    let bearer = format!("Bearer {}", chat.token);
    assert_eq!(chat.edge.get(&path, &[("Authorization", &bearer)]).status, 404);
}
