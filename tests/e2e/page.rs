//! The HTML report as a browser shows it.

use std::process::Command;

use base64::Engine as _;
use regatta_tests::busybox;
use regatta_tests::command::Data;
use serde_json::Value;

const MATRIX: &str = r#"
name: page
image: busybox
axes: {library: {values: [1.0, 2.0], ordered: true}}
test:
  run: |
    sail=ok; [ "$REGATTA_AXIS_LIBRARY" = 2.0 ] && sail="not ok"
    printf '1..2\nok 1 - anchor\n%s 2 - <b>sail</b>\n' "$sail" >"$REGATTA_RESULTS/case.tap"
compare: {axis: library, baseline: 1.0}
"#;

/// Tells what the page looks like, from within; the report itself has no script.
const PROBE: &str = r#"<script>
const seen = (selector) => {
  const element = document.querySelector(selector);
  const box = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  return {text: element.innerText, area: box.width * box.height, visible: element.checkVisibility(), colour: style.color};
};
// Once everything that the page asks for came, or did not.
addEventListener('load', () => { document.body.innerHTML = '<pre id="told">' + btoa(unescape(encodeURIComponent(JSON.stringify({
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  page: getComputedStyle(document.body).backgroundColor,
  conclusion: seen('#conclusion'),
  grid: seen('#cases table'),
  requests: performance.getEntriesByType('resource').map((one) => one.name),
  bold: document.querySelectorAll('b').length - document.querySelectorAll('ul.categories b').length,
})))) + '</pre>'; });
</script>"#;

/// What the probe tells, and what the browser says on its console.
fn look(data: &Data, page: &str, scheme: u32) -> (Value, String) {
    let profile = data.path().join(format!("chromium-{scheme}"));
    let done = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--enable-logging=stderr",
            "--dump-dom",
            "--window-size=1200,1000",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("file://{page}"))
        .output()
        .expect("chromium is missing: apt-get install chromium");
    let dom = String::from_utf8(done.stdout).unwrap();
    let told = dom
        .split_once("<pre id=\"told\">")
        .unwrap_or_else(|| panic!("{dom}"));
    let told = told.1.split_once('<').unwrap().0;
    let told = base64::engine::general_purpose::STANDARD
        .decode(told)
        .unwrap();
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    (serde_json::from_slice(&told).unwrap(), log)
}

#[test]
fn a_browser_shows_conclusion_and_grid_in_both_schemes_and_asks_nobody() {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let file = data.file("m.yaml", MATRIX);
    let report = data.path().join("report.html");
    let option = format!("html={}", report.display());
    data.run(["run", file.to_str().unwrap(), "--report", &option])
        .expect(1);
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(!html.contains("<script"), "it needs no script");
    let probed = data.file(
        "probed.html",
        &html.replace("</body>", &format!("{PROBE}</body>")),
    );
    let mut pages = Vec::new();
    for (scheme, dark) in [(0, true), (1, false)] {
        let (told, log) = look(&data, probed.to_str().unwrap(), scheme);
        assert!(!log.contains("CONSOLE"), "{log}");
        assert_eq!(told["requests"], serde_json::json!([]), "{told}");
        assert_eq!(
            (&told["dark"], &told["bold"]),
            (&dark.into(), &0.into()),
            "{told}"
        );
        for (part, text) in [("conclusion", "2.0 broke"), ("grid", "<b>sail</b>")] {
            let part = &told[part];
            assert!(part["text"].as_str().unwrap().contains(text), "{told}");
            assert!(part["area"].as_f64().unwrap() > 1000.0, "{told}");
            assert_eq!(part["visible"], true, "{told}");
            assert_ne!(part["colour"], told["page"], "{told}");
        }
        pages.push(told["page"].clone());
    }
    assert_ne!(pages[0], pages[1], "one is dark, the other light");
}
