//! Set-up layers by the real command: made once for what is the same, anew for what differs, in one data directory.

use regatta_tests::busybox;
use regatta_tests::command::Data;

fn ready() -> Data {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    data
}

/// Runs a matrix whose set-up draws a random word, and gives the word that each cell saw.
fn words(data: &Data, axis: &str, setup: &str, rest: &str) -> Vec<String> {
    let matrix = format!(
        "name: words\nimage: busybox\naxes: {{v: [{axis}]}}\n\
         setup: {{run: '{setup}; head -c 16 /dev/urandom | md5sum > /word', network: none}}\n\
         test: {{run: 'cat /word'}}\n{rest}"
    );
    let file = data.file("matrix.yaml", &matrix);
    data.run(["run", file.to_str().unwrap()]).expect(0);
    let cells = axis.split(',').count();
    (0..cells)
        .map(|cell| data.run(["logs", "last", &cell.to_string()]).expect(0).out)
        .collect()
}

fn distinct(words: &[String]) -> usize {
    let mut words = words.to_vec();
    words.sort();
    words.dedup();
    words.len()
}

#[test]
fn cells_and_runs_with_the_same_setup_share_one_layer() {
    let data = ready();
    let first = words(&data, "a, b, c, d", "true", "");
    assert_eq!(first.len(), 4);
    assert_eq!(distinct(&first), 1, "{first:?}");
    let again = words(&data, "a, b, c, d", "true", "limits: {memory: 64MiB}\n");
    assert_eq!(
        again, first,
        "another run, and other limits: the same layer"
    );
}

#[test]
fn another_text_files_or_value_makes_another_layer() {
    let data = ready();
    let base = words(&data, "a", "true", "");
    let text = words(&data, "a", "true ", "");
    assert_ne!(text, base);
    let values = words(&data, "a, b, c", "echo ${{ matrix.v }}", "");
    assert_eq!(distinct(&values), 3, "{values:?}");
    data.file("with/one", "1");
    let files = "files: [{from: ./with, to: /with}]\n";
    let one = words(&data, "a", "true", files);
    assert_ne!(one, base);
    assert_eq!(words(&data, "a", "true", files), one);
    data.file("with/one", "2");
    assert_ne!(words(&data, "a", "true", files), one);
}

#[test]
fn a_setup_that_failed_is_tried_again_by_the_next_run_alone() {
    let data = ready();
    let matrix = "name: failing\nimage: busybox\naxes: {v: [a, b, c]}\n\
         setup: {run: 'echo trying; head -c 8 /dev/urandom | md5sum; exit 7', network: none}\n\
         test: {run: 'true'}\n";
    let file = data.file("matrix.yaml", matrix);
    let logs = || {
        data.run(["run", file.to_str().unwrap()]);
        let log = |cell: u64| data.run(["logs", "last", &cell.to_string()]).expect(0).out;
        (0..3).map(log).collect::<Vec<String>>()
    };
    let first = logs();
    assert!(first[0].starts_with("trying\n"), "{first:?}");
    assert_eq!(distinct(&first), 1, "one set-up for all cells: {first:?}");
    let second = logs();
    assert_eq!(distinct(&second), 1);
    assert_ne!(first, second);
    let left = std::fs::read_dir(data.path().join("setup")).unwrap();
    let half: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("tmp-") || name.len() == 64)
        .collect();
    assert!(half.is_empty(), "{half:?}");
}

#[test]
fn files_lie_under_the_images_own_directories_and_links() {
    let data = ready();
    data.file("with/hello", "hello");
    let matrix = "name: files\nimage: busybox\naxes: {v: [a]}\n\
         files: [{from: ./with, to: /tmp/deep/er}, {from: ./with, to: /link/x}]\n\
         test: {run: 'cat /tmp/deep/er/hello; stat -c %a /tmp; cat /tmp/x/hello; ls -ld /link | cut -c1'}\n";
    // A link in the image: made by a set-up of an image of our own.
    data.run([
        "exec",
        "busybox",
        "--commit",
        "linked",
        "--",
        "sh",
        "-c",
        "chmod 1777 /tmp; ln -s /tmp /link",
    ])
    .expect(0);
    let file = data.file(
        "matrix.yaml",
        &matrix.replace("image: busybox", "image: linked"),
    );
    data.run(["run", file.to_str().unwrap()]).expect(0);
    let log = data.run(["logs", "last", "0"]).expect(0).out;
    assert_eq!(log, "hello1777\nhellol\n");
}
