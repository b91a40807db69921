//! What `/bin/sh -ec` runs of a tool for one shard of `$TEST_TOTAL_SHARDS`, in the image of the user: it has to do with POSIX's sh
//! and awk, and the tool. May not: run a test in more than one shard, or in none, whatever the plan of shards says; so what is
//! decided here is decided from what all shards have alike.

/// pytest has no option for it: a plugin leaves the tests of other shards out, by the plan of shards or, where that does not name
/// them, by the hash of their ids. So each runs in exactly one shard, whatever the plan says, since all shards have the same. The
/// name of a test in it is that of its JUnit. It is a file, so that workers of pytest-xdist load it as well. Of few tests, a
/// shard may get none: that all of them do is seen in the report.
pub(super) const PYTEST: &str = r#": >"$TEST_SHARD_STATUS_FILE"
plugin=$(mktemp -d)
cat >"$plugin/regatta_shard.py" <<'END'
import os, re, zlib, pytest
index, total = int(os.environ["TEST_SHARD_INDEX"]), int(os.environ["TEST_TOTAL_SHARDS"])
plan = {}
if os.environ.get("REGATTA_SHARDS"):
    with open(os.environ["REGATTA_SHARDS"], encoding="utf-8", newline="\n") as lines:
        for line in lines:
            name, _, shard = line.rstrip("\n").rpartition("\t")
            if re.match("[0-9]+$", shard) and int(shard) < total:
                plan[name] = int(shard)

def case(nodeid):
    address, bracket, parameters = nodeid.partition("[")
    names = address.split("::")
    names[0] = re.sub(r"\.py$", "", names[0].replace("/", "."))
    names[-1] += bracket + parameters
    return "::".join([".".join(names[:-1]), names[-1]])

def shard(item):
    planned = plan.get(case(item.nodeid))
    return zlib.crc32(item.nodeid.encode("utf-8", "replace")) % total if planned is None else planned

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    mine = lambda item: shard(item) == index
    others = [item for item in items if not mine(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = filter(mine, items)

@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = 0
END
PYTHONPATH="$plugin${PYTHONPATH:+:$PYTHONPATH}"; export PYTHONPATH
exec pytest -p regatta_shard --junitxml="$REGATTA_RESULTS/pytest.xml" "$@""#;

/// Go has no option for it: a shard tests the packages that the plan of shards gives it, and of those that it does not name its
/// part by a hash of their paths; without a plan, every Nth package of N shards. What begins with `-` is an option, with its
/// value after `=`; of those, the ones that choose files are for `go list` as well.
pub(super) const GO: &str = r#"set -f
packages= choose=
for word do
  shift
  case $word in
    -tags=*|-mod=*|-modfile=*|-race|-msan|-asan) choose="$choose $word"; set -- "$@" "$word" ;;
    -*) set -- "$@" "$word" ;;
    *) packages="$packages $word" ;;
  esac
done
packages=$(go list $choose -- ${packages:-.})
packages=$(printf '%s
' "$packages" | awk -v total="$TEST_TOTAL_SHARDS" -v mine="$TEST_SHARD_INDEX" -v plan="${REGATTA_SHARDS-}" '
  BEGIN {
    for (code = 1; code < 128; code++) ord[sprintf("%c", code)] = code
    while (plan != "" && (getline line < plan) > 0) {
      split(line, part, "\t")
      if (part[2] ~ /^[0-9]+$/ && part[2] + 0 < total) shards[part[1]] = part[2] + 0
    }
  }
  plan == "" { if ((NR - 1) % total == mine) print; next }
  $0 in shards { if (shards[$0] == mine) print; next }
  {
    hash = 0
    for (at = 1; at <= length($0); at++) hash = (hash * 31 + ord[substr($0, at, 1)]) % 1000003
    if (hash % total == mine) print
  }')
: >"$TEST_SHARD_STATUS_FILE"
if [ -z "$packages" ]; then
  echo '{"Action":"skip","Package":"none in this shard"}' >"$REGATTA_RESULTS/go.json"
  exit 0
fi
exec go test -json "$@" $packages >"$REGATTA_RESULTS/go.json""#;

/// nextest splits by a hash. A plan is followed by filters: a shard runs the tests that a rule of letters gives it, without those
/// that the plan gives to others, and those that the plan gives it and the rule does not. So a filter names but a part of the
/// plan, and an argument (128 KiB at most) holds one of many thousand tests; where it would not in one of the shards, all of
/// them split by the hash. A name in the plan is that of libtest's events: `PACKAGE::TEST`, or `PACKAGE::BINARY::TEST`; a test
/// that may be meant by one name is meant. nextest refuses filters on packages and binaries that are not there: Cargo says which
/// are. Filters in the arguments are one union, and restrict what a shard runs. Of few tests, a shard may get none, and then
/// writes no event: hence the suite without tests.
pub(super) const NEXTEST: &str = r#": >"$TEST_SHARD_STATUS_FILE"
printf '%s\n' '{"type":"suite","event":"started","test_count":0}' '{"type":"suite","event":"ok"}' >"$REGATTA_RESULTS/nextest.json"
NEXTEST_EXPERIMENTAL_LIBTEST_JSON=1; NEXTEST_NO_TESTS=pass; export NEXTEST_EXPERIMENTAL_LIBTEST_JSON NEXTEST_NO_TESTS
run() {
  exec cargo nextest run --message-format libtest-json-plus "$@" >>"$REGATTA_RESULTS/nextest.json"
}
# Prints the filters of this shard, one a line: what the rule gives it, and what the plan does beyond.
filters() {
  tr '{' '\n' | theirs=$1 LC_ALL=C awk '
  # A text as a regular expression has it.
  function literal(text,  at, c, out) {
    if (text ~ /^[A-Za-z0-9_:]*$/) return text
    for (at = 1; at <= length(text); at++) {
      c = substr(text, at, 1)
      out = out (c ~ /[A-Za-z0-9_:]/ || !(c in ord) ? c : sprintf("\\x%02X", ord[c]))
    }
    return out
  }
  # Cargo takes a dash in the name of a package for an underscore in that of its library.
  function same(text) { gsub(/-/, "_", text); return text }
  # The shard of the rule, by the last letter and how many are before; -1 where only the tool itself counts letters.
  function rule(test) {
    if (test == "") return 0
    if (test ~ /[^\001-\177]/) return -1
    return (length(test) - 1 + ord[substr(test, length(test))]) % total
  }
  # The same as a regular expression.
  function expression(shard,  before, code, class, out) {
    for (before = total - 1; before >= 0; before--) {
      class = ""
      for (code = 0; code < 128; code++)
        if ((before + code) % total == shard) class = class sprintf("\\x%02X", code)
      if (before % total == shard) class = class "\\x{80}-\\x{10FFFF}"
      out = "(?:[" class "]" (out == "" ? "" : "|." out) ")"
    }
    return "(?s)^(?:" (shard == 0 ? "|" : "") "(?:.{" total "})*" out ")$"
  }
  # Another test in a filter of a shard, below its binary.
  function add(list, shard, binary, text) {
    if (!((list, shard, binary) in met)) {
      met[list, shard, binary] = 1
      size[list, shard] += length(binary) + 24
      if (shard == mine) binaries[list] = binaries[list] SUBSEP binary
    }
    size[list, shard] += length(text) + 1
    if (shard == mine) tests[list, binary] = tests[list, binary] "|" text
  }
  function place(binary, test, to,  by, text, shard) {
    by = rule(test)
    text = literal(test)
    if (by != to) add("beyond", to, binary, text)
    for (shard = 0; shard < total; shard++)
      if (shard != to && (by == shard || by == -1)) add("without", shard, binary, text)
  }
  function filter(list,  of, count, at, out) {
    count = split(substr(binaries[list], 2), of, SUBSEP)
    for (at = 1; at <= count; at++)
      out = out (at == 1 ? "" : " | ") "(" of[at] " & test(/^(?:" substr(tests[list, of[at]], 2) ")$/))"
    return count == 0 ? "none()" : out
  }
  BEGIN {
    total = ENVIRON["TEST_TOTAL_SHARDS"] + 0; mine = ENVIRON["TEST_SHARD_INDEX"] + 0
    for (code = 1; code < 128; code++) ord[sprintf("%c", code)] = code
  }
  /^"name":"[^"]*","version":"[^"]*","id":/ { split($0, part, "\""); package = part[4]; next }
  /^"kind":\["custom-build"\]/ { next }
  /^"kind":\[[^]]*\],"crate_types":\[[^]]*\],"name":"/ {
    sub(/^"kind":\[[^]]*\],"crate_types":\[[^]]*\],"name":"/, ""); sub(/".*/, "")
    if (same($0) == same(package)) own[package] = own[package] "|" literal($0)
    else other[package, $0] = 1
  }
  END {
    while ((getline line < ENVIRON["REGATTA_SHARDS"]) > 0)
      if (match(line, /\t[0-9]+$/) && substr(line, RSTART + 1) + 0 < total)
        plan[substr(line, 1, RSTART - 1)] = substr(line, RSTART + 1) + 0
    for (name in plan) {
      if (!(at = index(name, "::"))) continue
      package = substr(name, 1, at - 1); test = substr(name, at + 2)
      from = "package(/^" literal(package) "$/) & binary(/^(?:"
      if (package in own) { place(from substr(own[package], 2) ")$/)", test, plan[name]); known = 1 }
      if (!(at = index(test, "::"))) continue
      binary = substr(test, 1, at - 1)
      if ((package, binary) in other) { place(from literal(binary) ")$/)", substr(test, at + 2), plan[name]); known = 1 }
    }
    if (!known) exit
    for (of in size) if (size[of] > 120000 - length(ENVIRON["theirs"])) exit
    print "test(/" expression(mine) "/) & not (" filter("without") ")"
    print filter("beyond")
  }'
}
# Runs what the plan and the arguments say; returns where that cannot be.
by_plan() {
  theirs= manifest= value=
  for word do
    shift
    case $value:$word in
      filter:*) theirs="$theirs${theirs:+ | }($word)"; value=; continue ;;
      manifest:*) manifest=$word; value= ;;
      rest:*) ;;
      :--) value=rest ;;
      :-E|:--filterset|:--filter-expr) value=filter; continue ;;
      :--filterset=*|:--filter-expr=*|:-E=*) theirs="$theirs${theirs:+ | }(${word#*=})"; continue ;;
      :-E*) theirs="$theirs${theirs:+ | }(${word#-E})"; continue ;;
      :--manifest-path) value=manifest ;;
      :--manifest-path=*) manifest=${word#*=} ;;
      # Tests of another place than this workspace, a split of their own, a filter among short options.
      :--archive-file*|:--binaries-metadata*|:--cargo-metadata*|:--partition*) return 0 ;;
      :--*|:-[pFPRZj]*) ;;
      :-*E*) return 0 ;;
    esac
    set -- "$@" "$word"
  done
  [ "$value" != filter ] || return 0
  metadata=$(cargo metadata --format-version 1 --no-deps ${manifest:+--manifest-path "$manifest"}) || return 0
  mine=$(printf '%s\n' "$metadata" | filters "$theirs") || return 0
  [ -n "$mine" ] || return 0
  theirs=${theirs:+"($theirs) & "}
  run -E "$theirs($(printf '%s\n' "$mine" | sed 1q))" -E "$theirs($(printf '%s\n' "$mine" | sed 1d))" "$@"
}
[ ! -s "${REGATTA_SHARDS-}" ] || by_plan "$@"
run --partition "hash:$((TEST_SHARD_INDEX + 1))/$TEST_TOTAL_SHARDS" "$@""#;

/// Jest splits files, one after the other. A plan, whose names are of files, is followed by a filter of files, which takes those
/// that it does not name by a hash of their paths. There is one filter at most: where the configuration has one, Jest splits. Of
/// few files, a shard may get none.
pub(super) const JEST: &str = r#": >"$TEST_SHARD_STATUS_FILE"
PATH="$PWD/node_modules/.bin:$PATH"; export PATH
split="--shard=$((TEST_SHARD_INDEX + 1))/$TEST_TOTAL_SHARDS"
theirs='"filter": "'
[ ! -s "${REGATTA_SHARDS-}" ] || theirs=$(jest --ci --showConfig "$@") || theirs='"filter": "'
case $theirs in *'"filter": "'*) ;; *)
  filter=$(mktemp -d)/regatta_shard.cjs
  cat >"$filter" <<'END'
const { REGATTA_SHARDS, TEST_SHARD_INDEX, TEST_TOTAL_SHARDS } = process.env;
const total = Number(TEST_TOTAL_SHARDS);
const plan = new Map();
for (const line of require('fs').readFileSync(REGATTA_SHARDS, 'utf8').split('\n')) {
  const [, file, shard] = /^([^]*)\t([0-9]+)$/.exec(line) || [];
  if (Number(shard) < total) plan.set(file, Number(shard));
}
function shardOf(file) {
  if (plan.has(file)) return plan.get(file);
  let hash = 0;
  for (let at = 0; at < file.length; at += 1) hash = (hash * 31 + file.charCodeAt(at)) % 1000003;
  return hash % total;
}
// Jest 30 wants paths; those before, objects with paths.
module.exports = async (files) => {
  const mine = files.filter((file) => shardOf(file) === Number(TEST_SHARD_INDEX));
  return { filtered: mine.concat(mine.map((test) => ({ test }))) };
};
END
  split="--filter=$filter"
esac
exec jest --ci --json --outputFile="$REGATTA_RESULTS/jest.json" "$split" --passWithNoTests "$@""#;

/// CTest takes every Nth test. A plan is followed by a list of numbers, which count what other arguments choose (without what they
/// choose by numbers, and what is run for the sake of fixtures): hence two lists, both of which have to be whole. What the plan does not
/// name goes by a hash of its name. Of few tests, a shard may get none: test 0, which there never is, keeps it from running all of them.
pub(super) const CTEST: &str = r#": >"$TEST_SHARD_STATUS_FILE"
if [ -s "${REGATTA_SHARDS-}" ] && lists=$(mktemp -d); then
  if ctest -N --test-dir "$@" -FA . -I 1,,1 >"$lists/counted" && ctest -N --test-dir "$@" -FA . >"$lists/chosen" &&
    LC_ALL=C awk '
    BEGIN {
      total = ENVIRON["TEST_TOTAL_SHARDS"] + 0; mine = ENVIRON["TEST_SHARD_INDEX"] + 0
      for (code = 1; code < 256; code++) ord[sprintf("%c", code)] = code
      while ((getline line < ENVIRON["REGATTA_SHARDS"]) > 0)
        if (match(line, /\t[0-9]+$/) && substr(line, RSTART + 1) + 0 < total)
          plan[substr(line, 1, RSTART - 1)] = substr(line, RSTART + 1) + 0
      chosen = "0,0,0,0"
    }
    function shard_of(name,  hash, at) {
      if (name in plan) return plan[name]
      for (at = 1; at <= length(name); at++) hash = (hash * 31 + ord[substr(name, at, 1)]) % 1000003
      return hash % total
    }
    FNR == 1 { file++ }
    /^Total Tests: [0-9]+$/ { whole[file] = $3 == met[file] + 0 }
    match($0, /^ *Test +#[0-9]+: /) {
      met[file]++
      number = $0; sub(/^ *Test +#/, "", number); number += 0
      if (file == 1) place[number] = met[file]
      else if (!(number in place)) exit
      else if (shard_of(substr($0, RLENGTH + 1)) == mine) chosen = chosen "," place[number]
    }
    END {
      if (!whole[1] || !whole[2]) exit 1
      print chosen
    }' "$lists/counted" "$lists/chosen" >"$lists/mine"
  then
    exec ctest --output-junit "$REGATTA_RESULTS/ctest.xml" --test-dir "$@" -I "$lists/mine"
  fi
fi
exec ctest --output-junit "$REGATTA_RESULTS/ctest.xml" -I "$((TEST_SHARD_INDEX + 1)),,$TEST_TOTAL_SHARDS,0" --test-dir "$@""#;
