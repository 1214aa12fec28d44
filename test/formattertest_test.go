package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// formatterTest runs `lorikeet formatter test` and gives its results and its exit code.
func formatterTest(t *testing.T, stdin string, args ...string) (results []map[string]any, stderr string, code int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"formatter", "test", "--timeout=1s"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var r map[string]any
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		results = append(results, r)
	}
	return results, errs.String(), cmd.ProcessState.ExitCode()
}

func TestFormatterTestRunsLists(t *testing.T) {
	t.Parallel()
	results, stderr, code := formatterTest(t, "", "../formatters/testdata/cases.jsonl")
	if code != 0 || len(results) < 120 {
		t.Fatalf("exit code %d with %d results: %s", code, len(results), stderr)
	}
	for i, r := range results {
		if int(r["line"].(float64)) != i+1 || r["ok"] != true || r["took"] == "" {
			t.Errorf("result %d is %v: results must come in order, one for each line", i+1, r)
		}
	}
}

func TestFormatterTestTellsWhatDiffers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	script := "function decodeUplink(input) { return {data: {n: input.bytes.length}} }"
	if err := os.WriteFile(filepath.Join(folder, "n.js"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	codec := filepath.Join(folder, "n")
	list := strings.Join([]string{
		`# a remark`, ``,
		`{"codec":"` + codec + `.js","bytes":"0102","expect":{"n":3}}`,
		`{"codec":"` + codec + `","bytes":[1],"expect":{"n":1}}`,
		`{"codec":"` + codec + `.js","bytes":[1]}`,
		`{"codec":"` + codec + `.js","direction":"encode","data":{}}`,
		`{"codec":"none.js","bytes":[1],"expect":{"error":true}}`,
		`{"codec":"alder/room-codec","bytes":[1],"expect":{"error":true}}`,
		`{"bytes":[1]}`,
		`{`,
	}, "\n")
	results, stderr, code := formatterTest(t, list, "-")
	if code != 1 || !strings.Contains(stderr, "6 of 8 cases failed") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	want := []struct {
		line float64
		ok   bool
		part string
	}{
		{3, false, `"diff":["data.n: want 3, got 2"]`}, {4, true, `"got":{"data":{"n":1}}`}, {5, true, `"got":`}, {6, false, `"error_name":"formatter_function"`},
		{7, false, "there is no file none.js"}, {8, false, "add --repository DIR"}, {9, false, "names no codec"}, {10, false, "must be a JSON object"},
	}
	if len(results) != len(want) {
		t.Fatalf("got %d results, want %d: %v", len(results), len(want), results)
	}
	for i, w := range want {
		text, err := json.Marshal(results[i])
		if err != nil || results[i]["line"] != w.line || results[i]["ok"] != w.ok || !strings.Contains(string(text), w.part) {
			t.Errorf("got %s, want line %v, ok %v and %s", text, w.line, w.ok, w.part)
		}
	}
}

func TestFormatterTestRunsExamplesOfARepository(t *testing.T) {
	t.Parallel()
	const repository = "../formatters/repository/testdata/devices"
	results, stderr, code := formatterTest(t, "", "--repository", repository)
	if code != 1 || len(results) != 7 || !strings.Contains(stderr, "broken.yaml") || !strings.Contains(stderr, "7 cases, 0 failed") {
		t.Errorf("exit code %d with %d results: %s", code, len(results), stderr)
	}
	results, stderr, code = formatterTest(t, `{"codec":"birch/meter","f_port":10,"bytes":"0001e240","expect":{"litres":123456}}`, "--repository", repository, "-")
	if code != 0 || len(results) != 1 || results[0]["ok"] != true {
		t.Errorf("exit code %d, %v: %s", code, results, stderr)
	}
	if _, stderr, code = formatterTest(t, ""); code == 0 || !strings.Contains(stderr, "name a list of cases") {
		t.Errorf("without anything: exit code %d: %s", code, stderr)
	}
}
