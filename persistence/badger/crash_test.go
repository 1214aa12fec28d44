package badger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lorikeet/messages"
)

// The test binary runs itself again: as a process to be killed in the middle of its writes, and as one that opens damaged files, since Badger panics
// in goroutines of its own on some kinds of damage.
const childVariable = "LORIKEET_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	var err error
	switch role, dir, _ := strings.Cut(os.Getenv(childVariable), ":"); role {
	case "":
		os.Exit(m.Run())
	case "load":
		err = childLoad(dir)
	case "verify":
		err = childVerify(dir)
	default:
		err = fmt.Errorf("role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(3)
	}
	os.Exit(0)
}

func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVariable+"="+role+":"+dir, "GORACE=atexit_sleep_ms=0") // else the race detector sleeps a second at each exit
	return cmd
}

const loadDevices = 16

func loadDevice(i int) messages.DeviceID {
	return messages.DeviceID{ApplicationID: fmt.Sprintf("app-%d", i%3), DeviceID: fmt.Sprintf("dev-%d", i)}
}

// childLoad goes on writing until it is killed, and says of each write that it was acknowledged: "device counter revision".
func childLoad(dir string) error {
	s, err := Open(testConfig(dir))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error, loadDevices)
	for i := range loadDevices {
		go func() { failed <- loadOne(s, i, &mu) }()
	}
	return <-failed
}

func loadOne(s *Store, i int, mu *sync.Mutex) error {
	ctx, d := context.Background(), loadDevice(i)
	session, rev, err := s.LoadSession(ctx, d)
	if err != nil {
		return err
	}
	n := 0
	if session != nil {
		if _, err := fmt.Sscan(string(session), &n); err != nil {
			return err
		}
	}
	for {
		n++
		e := messages.Event{ID: fmt.Sprintf("%d-%d", i, n), Device: d, Type: messages.EventUplink, JSON: []byte(strings.Repeat("x", 500))}
		if rev, err = s.Commit(ctx, messages.Commit{Device: d, Expected: rev, Session: fmt.Append(nil, n), Events: []messages.Event{e}}); err != nil {
			return err
		}
		mu.Lock()
		_, err = fmt.Println(i, n, uint64(rev))
		mu.Unlock()
		if err != nil {
			return err
		}
		if n%7 == 0 {
			if err := s.SaveCursor(ctx, fmt.Sprintf("%s/%d", d.ApplicationID, i), uint64(n)); err != nil {
				return err
			}
		}
	}
}

// runAndKill lets a child write and kills it after some acknowledged writes. It gives the last counter and revision that each device was told.
func runAndKill(t *testing.T, dir string, after int) (counters, revisions [loadDevices]int) {
	t.Helper()
	cmd := child(t, "load", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	n := 0
	for lines.Scan() {
		var i, counter, rev int
		if _, err := fmt.Sscan(lines.Text(), &i, &counter, &rev); err != nil {
			break // cut off by the kill
		}
		counters[i], revisions[i] = counter, rev
		if n++; n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || n < after {
		t.Fatalf("the child ended by itself after %d writes: %v %s", n, err, stderr.String())
	}
	return counters, revisions
}

// contents checks that sessions and logs belong together, and gives the counter of each device.
func contents(s *Store) (counters [loadDevices]int, err error) {
	ctx := context.Background()
	var logged [loadDevices]int
	for app := range 3 {
		for seq := uint64(0); ; {
			entries, err := s.ReadLog(ctx, fmt.Sprintf("app-%d", app), seq, 0)
			if err != nil {
				return counters, err
			}
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				var i, n int
				if _, err := fmt.Sscanf(e.ID, "%d-%d", &i, &n); err != nil {
					return counters, err
				}
				if e.Seq != seq+1 || n != logged[i]+1 || len(e.JSON) != 500 {
					return counters, fmt.Errorf("event %s at %d follows event %d of the device at %d", e.ID, e.Seq, logged[i], seq)
				}
				seq, logged[i] = e.Seq, n
			}
		}
	}
	for i := range loadDevices {
		session, _, err := s.LoadSession(ctx, loadDevice(i))
		if err != nil {
			return counters, err
		}
		if session != nil {
			if _, err := fmt.Sscan(string(session), &counters[i]); err != nil {
				return counters, err
			}
		}
		if counters[i] != logged[i] {
			return counters, fmt.Errorf("device %d is at %d, but its last event is %d", i, counters[i], logged[i])
		}
	}
	return counters, nil
}

// kill -9 in the middle of the load loses nothing that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 6 {
		acknowledged, revisions := runAndKill(t, dir, 50+rand.IntN(1500))
		s := mustOpen(t, testConfig(dir))
		stored, err := contents(s)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for i, n := range acknowledged {
			if stored[i] < n || n > 0 && stored[i] > n+1 {
				t.Errorf("round %d: device %d was told %d, stored is %d", round, i, n, stored[i])
			}
			if _, rev, err := s.LoadSession(t.Context(), loadDevice(i)); err != nil || int(rev) < revisions[i] {
				t.Errorf("round %d: device %d was told revision %d, stored is %d, %v", round, i, revisions[i], rev, err)
			}
		}
		closeStore(t, s)
	}
}

// childVerify opens a store, reads all of it, and compares it with what it should hold, which it reads from the file "want" beside it.
func childVerify(dir string) error {
	s, err := Open(testConfig(dir))
	if err != nil {
		return err
	}
	got, err := contents(s)
	if err != nil {
		return err
	}
	want, err := os.ReadFile(filepath.Join(dir, "want"))
	if err != nil {
		return err
	}
	if fmt.Sprint(got) != string(want) {
		fmt.Printf("SILENT LOSS: got %v, want %s\n", got, want)
	}
	documents := 0
	if err := s.ScanDocuments(context.Background(), messages.KindDevice, func(d messages.Document) error {
		if string(d.Value) != "value of "+d.ID {
			fmt.Println("SILENT DAMAGE:", d.ID)
		}
		documents++
		return nil
	}); err != nil {
		return err
	}
	if documents != 100 {
		fmt.Printf("SILENT LOSS: %d documents\n", documents)
	}
	return s.Close()
}

// A flipped bit or a cut in any file is either noticed (at start or when reading) or harmless; nothing is silently missing.
func TestDamagedFilesAreNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	var writes []messages.Write
	for i := range 100 {
		id := fmt.Sprintf("app.%d", i)
		writes = append(writes, messages.Write{Kind: messages.KindDevice, ID: id, Value: []byte("value of " + id)})
	}
	if err := s.WriteDocuments(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	runAndKill(t, dir, 500)
	s = mustOpen(t, testConfig(dir)) // makes a table of the first part
	closeStore(t, s)
	runAndKill(t, dir, 500) // leaves a second part in Badger's write-ahead log
	whole := copyStore(t, dir)
	s = mustOpen(t, testConfig(dir))
	want, err := contents(s)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := os.WriteFile(filepath.Join(whole, "want"), []byte(fmt.Sprint(want)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "verify", copyStore(t, whole)).CombinedOutput(); err != nil {
		t.Fatalf("the store is not whole to begin with: %v %s", err, out)
	}

	flips := 6 // of each file
	if os.Getenv("LORIKEET_TEST_THOROUGH") != "" {
		flips = 12
	}
	noticed, total := make(map[string]int), make(map[string]int)
	try := func(kind, what string, damage func(dir string) error) {
		t.Helper()
		copied := copyStore(t, whole)
		if err := damage(copied); err != nil {
			t.Fatal(err)
		}
		out, err := child(t, "verify", copied).CombinedOutput()
		total[kind]++
		var exit *exec.ExitError
		switch {
		case err == nil && strings.Contains(string(out), "SILENT"):
			t.Errorf("%s: %s", what, out)
		case err == nil:
		case errors.As(err, &exit):
			noticed[kind]++
			if strings.Contains(string(out), "SILENT") {
				t.Errorf("%s: %s", what, out)
			}
		default:
			t.Fatal(err)
		}
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for name, content := range readFiles(t, whole) {
		used := len(content)
		for used > 0 && content[used-1] == 0 {
			used-- // the files are larger than what is written into them
		}
		if used == 0 || name == "want" {
			continue
		}
		kind := filepath.Ext(name)
		if kind == "" {
			kind = filepath.Base(name)
		}
		for range flips {
			at, bit := random.IntN(used), random.IntN(8)
			try(kind, fmt.Sprintf("%s: byte %d of %d bit %d flipped", name, at, used, bit), func(dir string) error {
				bad := append([]byte(nil), content...)
				bad[at] ^= 1 << bit
				return os.WriteFile(filepath.Join(dir, name), bad, 0o600)
			})
		}
		cut := random.IntN(used)
		try(kind, fmt.Sprintf("%s: cut to %d of %d", name, cut, used), func(dir string) error { return os.Truncate(filepath.Join(dir, name), int64(cut)) })
		try(kind, name+": deleted", func(dir string) error { return os.Remove(filepath.Join(dir, name)) })
	}
	t.Logf("noticed %v of %v", noticed, total)
	for _, kind := range []string{".mem", ".sst"} {
		if total[kind] == 0 || noticed[kind] < total[kind]/2 {
			t.Errorf("of %d kinds of damage to %s files only %d were noticed", total[kind], kind, noticed[kind])
		}
	}
}
