//! The server's logo and banner: who may change them, what is kept of them, and where they are shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chatto::http::Config;
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::media::{detect, image};
use chatto::web::Folder;
use serde_json::{Value, json};

use super::images::photo;
use super::support::{Edge, Response};
use crate::support::images;

/// Both images: the name in the methods, and the field of the profile.
const IMAGES: [(&str, &str); 2] = [("Logo", "logoUrl"), ("Banner", "bannerUrl")];

fn call(edge: &Edge, token: &str, method: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {token}");
    let path = format!("/api/connect/chatto.admin.v1.AdminServerService/{method}");
    edge.post(&path, &[("Authorization", &bearer)], body)
}

fn upload(edge: &Edge, token: &str, which: &str, file: &[u8]) -> Response {
    // The client's name and type of it count for nothing.
    let image =
        json!({"image": STANDARD.encode(file), "filename": "a.svg", "contentType": "text/html"});
    call(edge, token, &format!("UploadServer{which}"), &json!({"image": image}))
}

fn delete(edge: &Edge, token: &str, which: &str) -> Response {
    call(edge, token, &format!("DeleteServer{which}"), &json!({}))
}

/// The path of an image in the profile of a response.
fn path(response: &Response, field: &str) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    let url = response.json()["publicProfile"][field].as_str().unwrap().to_owned();
    let path = url.strip_prefix("http://localhost").unwrap();
    assert!(path.starts_with("/assets/server/"), "{url}");
    path.to_owned()
}

/// A PNG of random colours.
fn noise(width: u32, height: u32, colour: png::ColorType) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let bytes = width * height * if colour == png::ColorType::Rgba { 4 } else { 3 };
    let pixels: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

fn size(file: &[u8]) -> (u32, u32) {
    let found = detect(file);
    (found.width, found.height)
}

#[test]
fn the_logo_and_the_banner_are_images_of_a_limited_size_that_everybody_may_keep() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    // Shown upright, the photo is twice as high as wide.
    for ((which, field), expected) in IMAGES.into_iter().zip([(256, 512), (400, 800)]) {
        let first = path(&upload(&edge, &owner, which, &photo(2_000, 1_000, false)), field);
        let image = edge.get(&first, &[]);
        assert_eq!((image.status, image.header("content-type")), (200, Some("image/jpeg")));
        assert_eq!(size(&image.body), expected, "{which}");
        let cache = image.header("cache-control");
        assert_eq!(cache, Some("public, max-age=31536000, immutable"));
        assert_eq!(image.header("x-content-type-options"), Some("nosniff"));
        assert!(!image.body.windows(4).any(|window| window == b"Exif"));

        let discovered = edge.post(
            "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer",
            &[],
            &json!({}),
        );
        let url = discovered.json()["profile"][field].as_str().unwrap().to_owned();
        assert_eq!(url, format!("http://localhost{first}"));

        let next = path(&upload(&edge, &owner, which, &photo(8, 8, false)), field);
        assert_ne!(next, first);
        assert_eq!(edge.get(&first, &[]).status, 404, "the former one is gone");
        assert_eq!(size(&edge.get(&next, &[]).body), (8, 8), "it is never enlarged");
        for _ in 0..2 {
            let deleted = delete(&edge, &owner, which);
            assert_eq!(deleted.status, 200, "{}", deleted.text());
            assert_eq!(deleted.json()["publicProfile"][field], Value::Null);
            assert_eq!(deleted.json()["publicProfile"]["name"], "Chatto");
        }
        assert_eq!(edge.get(&next, &[]).status, 404);
    }
}

#[test]
fn an_image_of_several_chunks_is_stored_whole() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    let file = noise(1_600, 800, png::ColorType::Rgb);
    let banner = path(&upload(&edge, &owner, "Banner", &file), "bannerUrl");
    let whole = edge.get(&banner, &[]);
    assert!(whole.body.len() > UPLOAD_CHUNK_MAX_BYTES, "{} bytes", whole.body.len());
    assert_eq!((size(&whole.body), whole.body.last_chunk()), ((1_600, 800), Some(&[0xFF, 0xD9])));
    let part = edge.get(&banner, &[("Range", "bytes=524286-524289")]);
    assert_eq!((part.status, part.body.as_slice()), (206, &whole.body[524_286..524_290]));
    // Lossless, as it is transparent, it would be too large to be kept in memory while it is sent.
    let refused = upload(&edge, &owner, "Banner", &noise(1_600, 800, png::ColorType::Rgba));
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("invalid_argument")));
    assert!(refused.text().contains("too many details"), "{}", refused.text());
    assert_eq!(edge.get(&banner, &[]).status, 200);
}

#[test]
fn only_who_manages_the_server_changes_its_images() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    let member = edge.person(&owner, "grace");
    let logo = path(&upload(&edge, &owner, "Logo", &photo(64, 64, false)), "logoUrl");
    for (which, _) in IMAGES {
        // The right comes before what is sent.
        for file in [photo(64, 64, false), b"no image".to_vec()] {
            let denied = upload(&edge, &member, which, &file);
            assert_eq!((denied.status, &denied.json()["code"]), (403, &json!("permission_denied")));
        }
        let denied = delete(&edge, &member, which);
        assert_eq!((denied.status, &denied.json()["code"]), (403, &json!("permission_denied")));
        for method in [format!("UploadServer{which}"), format!("DeleteServer{which}")] {
            let stranger = call(&edge, "nobody", &method, &json!({}));
            assert_eq!(stranger.status, 401);
        }
    }
    assert_eq!(edge.get(&logo, &[]).status, 200);

    let bearer = format!("Bearer {owner}");
    let link = edge.post(
        "/auth/join-links",
        &[("Authorization", &bearer)],
        &json!({"role": "admin", "login": "alan"}),
    );
    let url = link.json()["url"].as_str().unwrap().to_owned();
    let token = url.split_once("/setup#").unwrap().1;
    let body = json!({"token": token, "login": "alan", "password": "correct horse"});
    let admin = edge.post("/auth/setup", &[], &body).json()["token"].as_str().unwrap().to_owned();
    assert_eq!(delete(&edge, &admin, "Logo").status, 200);
    assert_eq!(edge.get(&logo, &[]).status, 404);
}

#[test]
fn what_is_no_image_changes_nothing() {
    let config = Config { upload_max_bytes: 200_000, ..Config::default() };
    let edge = Edge::start(config);
    let owner = edge.owner();
    let mut bomb = Vec::new();
    drop(png::Encoder::new(&mut bomb, 60_000, 60_000).write_header().unwrap());
    let cut = photo(64, 64, false)[..600].to_vec();
    for (which, field) in IMAGES {
        let image = path(&upload(&edge, &owner, which, &photo(64, 64, false)), field);
        for file in [
            b"".as_slice(),
            b"text",
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            b"<!doctype html><script>alert(1)</script>",
            b"GIF89a\x04\0\x04\0<script>alert(1)</script>",
            &cut,
            &bomb,
        ] {
            let refused = upload(&edge, &owner, which, file);
            let code = refused.json()["code"].clone();
            assert_eq!((refused.status, &code), (400, &json!("invalid_argument")), "{file:?}");
        }
        let none = call(&edge, &owner, &format!("UploadServer{which}"), &json!({}));
        assert_eq!((none.status, &none.json()["code"]), (400, &json!("invalid_argument")));
        let large = upload(&edge, &owner, which, &vec![0; 300_000]);
        assert_eq!((large.status, &large.json()["code"]), (429, &json!("resource_exhausted")));
        // What follows an image in its file is no part of what is kept.
        let kept = edge.get(&image, &[]);
        assert_eq!((kept.status, size(&kept.body)), (200, (64, 64)));
        let polyglot = [photo(64, 64, false).as_slice(), b"<script>alert(1)</script>"].concat();
        let image = path(&upload(&edge, &owner, which, &polyglot), field);
        assert!(!edge.get(&image, &[]).body.windows(7).any(|window| window == b"<script"));
    }
}

#[test]
fn a_logo_in_place_of_its_icon_is_not_kept_by_browsers() {
    // The logo is made, its icons are not.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    let script = format!(
        "#!/bin/sh\n[ \"$2\" != 32 ] || kill -KILL $$\nexec {} \"$@\"\n",
        images().program.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let edge = Edge::start_with_images(image::Config { program, ..images() });
    let owner = edge.owner();
    let logo = path(&upload(&edge, &owner, "Logo", &photo(600, 600, false)), "logoUrl");
    let cache = |path: &str| {
        let image = edge.get(path, &[]);
        (size(&image.body), image.header("cache-control").unwrap().to_owned())
    };
    let forever = "public, max-age=31536000, immutable".to_owned();
    assert_eq!(cache(&logo), ((512, 512), forever.clone()));
    assert_eq!(
        cache(&format!("{logo}/image/32x32/cover")),
        ((512, 512), "public, no-cache".to_owned())
    );
    assert_eq!(cache(&format!("{logo}/image/180x180/cover")), ((180, 180), forever));
}

#[test]
fn browsers_find_the_logo_as_an_icon_of_their_size() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("200.html"), "<html></html>").unwrap();
    fs::write(folder.path().join("manifest.webmanifest"), r#"{"icons":[],"name":"x"}"#).unwrap();
    let client_dir = Some(Folder::at(folder.path().to_owned()));
    let edge = Edge::start(Config { client_dir, ..Config::default() });
    let owner = edge.owner();
    let logo = path(&upload(&edge, &owner, "Logo", &photo(600, 600, false)), "logoUrl");
    for (icon, side) in [("/favicon", 32), ("/apple-touch-icon", 180)] {
        let found = edge.get(icon, &[]);
        assert_eq!((found.status, found.header("cache-control")), (302, Some("no-cache")));
        let image = edge.get(found.header("location").unwrap(), &[]);
        assert_eq!((image.status, size(&image.body)), (200, (side, side)), "{icon}");
        let cache = image.header("cache-control");
        assert_eq!(cache, Some("public, max-age=31536000, immutable"));
    }
    let manifest = edge.get("/manifest.webmanifest", &[]).json();
    assert_eq!(manifest["name"], "Chatto");
    let mut sizes = Vec::new();
    for icon in manifest["icons"].as_array().unwrap() {
        let image = edge.get(icon["src"].as_str().unwrap(), &[]);
        let (width, height) = size(&image.body);
        assert_eq!(icon["sizes"], format!("{width}x{height}"));
        sizes.push(width);
    }
    assert_eq!(sizes, [192, 512]);
    // Nobody can ask for more than these.
    let avatar = json!({"image": {"image": STANDARD.encode(photo(64, 64, false))}});
    let user = edge.call_ok(&owner, "MyAccountService/UploadAvatar", &avatar);
    let avatar = user["user"]["avatarUrl"].as_str().unwrap().replace("http://localhost", "");
    for other in [
        format!("{logo}/image/64x64/cover"),
        format!("{logo}/image/32x180/cover"),
        format!("{logo}/image/32x32/contain"),
        format!("{logo}/image/32x32"),
        format!("{avatar}/image/32x32/cover"),
        "/assets/server/nonsense/image/32x32/cover".to_owned(),
    ] {
        assert_eq!(edge.get(&other, &[]).status, 404, "{other}");
    }
    let icon = edge.get("/favicon", &[]).header("location").unwrap().to_owned();
    assert_eq!(delete(&edge, &owner, "Logo").status, 200);
    assert_eq!(edge.get("/favicon", &[]).header("location"), Some("/icons/favicon.png"));
    assert_eq!(edge.get(&icon, &[]).status, 404);
    assert_eq!(edge.get("/manifest.webmanifest", &[]).json()["icons"], json!([]));
}

#[test]
fn the_page_of_the_server_shows_its_logo_in_previews_of_links() {
    let edge = Edge::start(Config::default());
    let owner = edge.owner();
    let logo = path(&upload(&edge, &owner, "Logo", &photo(64, 64, false)), "logoUrl");
    let tag = format!(r#"<meta property="og:image" content="http://localhost{logo}">"#);
    assert!(edge.get("/", &[]).text().contains(&tag));
    let icon = edge.get("/favicon", &[]).header("location").unwrap().to_owned();
    assert_eq!(size(&edge.get(&icon, &[]).body), (32, 32));
}
