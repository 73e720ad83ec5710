//! Which URLs are taken as endpoints. What is taken is handed to readers as it was written, so nothing may be in it
//! that another parser would read as another host.

use std::net::Ipv6Addr;

use registry_wire::Endpoint;

#[test]
fn taken_and_kept_as_written() {
    let name_253 = format!("{}.{}", vec!["a".repeat(49); 5].join("."), "abc");
    assert_eq!(name_253.len(), 253);
    for text in [
        "http://web",
        "http://web/",
        "https://web",
        "http://web:1",
        "http://web:80",
        "https://web:443/",
        "http://web:65535",
        "http://vertice-osint:8049",
        "http://web.example.com.:8080",
        "HTTP://WEB:80/Path",
        "http://Web.Example/",
        // Underscores are no RFC 1123, but Docker Compose gives such names.
        "http://project_web_1:80",
        "http://0web",
        "http://xn--bcher-kva.example",
        "http://10.0.0.1:8080",
        "http://0.0.0.0",
        "http://255.255.255.255",
        "http://[::1]",
        "http://[::1]:8080/x",
        "http://[2001:DB8:0:0::0001]:80",
        "http://[::ffff:10.0.0.1]",
        "http://web/a/b?c=d&e=%20f",
        "http://web?x",
        "http://web/a@b:c",
        "http://web/?to=http://other/",
        "http://web/é",
        &format!("http://{}", "a".repeat(63)),
        &format!("http://{name_253}"),
        &format!("http://{name_253}."),
    ] {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => assert_eq!(endpoint.as_str(), text),
            Err(error) => panic!("{text:?} was refused: {error}"),
        }
    }
}

fn refused(texts: &[&str]) {
    for text in texts {
        match text.parse::<Endpoint>() {
            Ok(_) => panic!("{text:?} was taken"),
            Err(error) => assert_eq!(error.field(), "endpoint", "{text:?}"),
        }
    }
}

#[test]
fn refused_no_absolute_http_url() {
    refused(&[
        "",
        "web",
        "web:80",
        "/path",
        "//web",
        "http",
        "http:",
        "http:/",
        "http://",
        "http:web",
        "http:/web",
        "http:///web",
        "http:////web",
        "http://:80",
        "http:///",
        "http://?x",
        "://web",
        "ftp://web",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "javascript://web/%0aalert(1)",
        "data:text/html,x",
        "gopher://web",
        "ws://web",
        "unix:///run/web.sock",
        "http+unix://web",
        "httpx://web",
        // The first "://" stands behind the host, which the URL library would find without it.
        "http:A\u{d7}://web",
        "http:user@web://web",
        "http:web/x://y",
        "mailto:a@b",
    ]);
}

#[test]
fn refused_user_information() {
    refused(&[
        "http://user@web",
        "http://user:secret@web",
        "http://@web",
        "http://:@web",
        "http://web@",
        "http://a@b@web",
        "http://good%40web@bad",
        "http://web:80@bad:80",
    ]);
}

#[test]
fn refused_fragment() {
    refused(&["http://web#", "http://web/#x", "http://web/a?b#c"]);
}

#[test]
fn refused_port() {
    refused(&[
        "http://web:0",
        "http://web:65536",
        "http://web:70000",
        "http://web:99999999999",
        "http://web:-1",
        "http://web:+80",
        "http://web:",
        "http://web:/",
        "http://web:080",
        "http://web:00",
        "http://web:8o",
        "http://web:80:80",
        "http://[::1]:0",
        "http://[::1]:",
        "http://web:%38%30",
        "http://web:８０",
    ]);
}

#[test]
fn refused_white_space_control_characters_backslashes() {
    refused(&[
        " http://web",
        "http://web ",
        "http://we b",
        "http://web/a b",
        "http://web/\t",
        "ht\ntp://web",
        "http://we\rb",
        "http://web\0",
        "http://web/\0",
        "http://web/\u{7f}",
        "http://web\u{a0}",
        "http://web\u{2028}",
        "\u{feff}http://web",
        "http:\\\\web",
        "http://web\\path",
        "http://good\\@bad",
        "http:/\\web",
        "\\\\web",
    ]);
}

#[test]
fn refused_hosts_that_a_parser_rewrites() {
    refused(&[
        "http://0x7f.1",
        "http://0x7f000001",
        "http://2130706433",
        "http://017700000001",
        "http://0177.0.0.1",
        "http://010.1.1.1",
        "http://127.1",
        "http://1.2.3",
        "http://1.2.3.4.",
        "http://0",
        "http://127.0.0.01",
        "http://1.2.3.4.5",
        "http://256.1.1.1",
        "http://web.1",
        "http://web%2eexample",
        "http://EXAMPLE%2ecom",
        "http://%77eb",
        "http://we%62",
        "http://web%00",
        "http://bücher.example",
        "http://web。example",
        "http://１２７.0.0.1",
        "http://①",
        "http://we\u{ad}b",
        "http://we\u{200d}b",
        "http://faß.example",
        "http://\u{212a}.example",
    ]);
}

#[test]
fn refused_hosts_that_are_no_name() {
    refused(&[
        "http://-web",
        "http://web-",
        "http://_web",
        "http://web_",
        "http://.web",
        "http://web..example",
        "http://web..",
        "http://.",
        "http://a..b",
        "http://we,b",
        "http://we*b",
        "http://*",
        "http://we!b",
        "http://$(id)",
        "http://`id`",
        "http://we;b",
        "http://we&b",
        "http://we'b",
        "http://we\"b",
        "http://<web>",
        "http://we|b",
        "http://we^b",
        "http://{web}",
        "http://we%b",
        "http://web~1",
        "http://we=b",
        "http://(web)",
        "http://we+b",
    ]);
}

#[test]
fn refused_brackets() {
    refused(&[
        "http://[]",
        "http://[",
        "http://[::1",
        "http://::1",
        "http://::1:80",
        "http://[::1]80",
        "http://[::1]x:80",
        "http://[:::1]",
        "http://[::1%25eth0]",
        "http://[::1%eth0]",
        "http://[fe80::1%1]",
        "http://[10.0.0.1]",
        "http://[v1.x]",
        "http://[web]",
        "http://[::ffff:010.0.0.1]",
        "http://[1:2:3:4:5:6:7:8:9]",
        "http://[12345::]",
    ]);
}

#[test]
fn refused_what_is_no_url_code_point() {
    refused(&[
        "http://web/<script>",
        "http://web/\"x",
        "http://web/{x}",
        "http://web/`id`",
        "http://web/a|b",
        "http://web/a^b",
        "http://web/%",
        "http://web/%zz",
        "http://web/?%4",
    ]);
}

#[test]
fn refused_names_that_are_too_long() {
    for host in ["a".repeat(64), format!("{}.{}", vec!["a".repeat(49); 5].join("."), "abcd")] {
        refused(&[&format!("http://{host}"), &format!("http://{host}:80/")]);
    }
}

#[test]
fn built_from_parts() {
    let built =
        |scheme: &str, host: &str, port: u16| Endpoint::from_parts(scheme, host, port).map(|e| e.to_string());
    assert_eq!(built("http", "web", 8080).unwrap(), "http://web:8080");
    assert_eq!(built("https", "10.0.0.1", 443).unwrap(), "https://10.0.0.1:443");
    assert_eq!(built("http", "::1", 80).unwrap(), "http://[::1]:80");
    assert_eq!(built("http", "[::1]", 80).unwrap(), "http://[::1]:80");
    assert_eq!(built("http", &Ipv6Addr::LOCALHOST.to_string(), 80).unwrap(), "http://[::1]:80");
    for (scheme, host, port) in [
        ("http", "web", 0),
        ("http", "", 80),
        ("http", "web/x", 80),
        ("http", "web?x", 80),
        ("http", "web#x", 80),
        ("http", "web:90", 80),
        ("http", "user@web", 80),
        ("http", "web ", 80),
        ("http", "127.1", 80),
        ("ftp", "web", 80),
        ("", "web", 80),
        ("http://other/", "web", 80),
        ("http://other?", "web", 80),
    ] {
        assert!(built(scheme, host, port).is_err(), "{scheme:?} {host:?} {port}");
    }
}
