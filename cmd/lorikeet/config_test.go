package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestPrintedConfigurationReadsBack(t *testing.T) {
	want := DefaultConfig()
	var b bytes.Buffer
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lorikeet.yaml")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := got.readFile(path); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	c := DefaultConfig()
	c.AdminKey, c.KEK = "NNSXS.HUSH", "0123456789abcdef"
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.Contains(s, "HUSH") || strings.Contains(s, "0123456789abcdef") {
		t.Fatal(s)
	}
}

func TestMistakesInTheFileAreNamed(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":     {"udp:\n  listne: \":1700\"\n", `line 2: unknown key "listne"; did you mean udp.listen?`},
		"wrong section":   {"retention: 24h\n", `line 1: unknown key "retention"; did you mean store.retention?`},
		"nothing like it": {"colour_of_the_lamp: red\n", `line 1: unknown key "colour_of_the_lamp"; run`},
		"wrong type":      {"udp:\n  auto_register: perhaps\n", "line 2: the value `perhaps` is of the wrong type: use true or false"},
		"not YAML":        {"udp: [", "line"},
		"no duration":     {"store:\n  retention: long\n", "line 2: the value `long` is of the wrong type: use a duration such as 200ms, 30s or 24h"},
		"list for a text": {"admin_key: [hush]\n", "line 1: the value is of the wrong type: use a text"},
		"unknown section": {"upd: {}\n", `did you mean udp?`},
	} {
		path := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		if err := cfg.readFile(path); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestValidationSaysWhatToChange(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"net_id":               func(c *Config) { c.NetID = "13" },
		"log.level":            func(c *Config) { c.Log.Level = "loud" },
		"http.listen":          func(c *Config) { c.HTTP.Listen = "1885" },
		"udp.listen":           func(c *Config) { c.UDP.Listen = ":170000" },
		"public_url":           func(c *Config) { c.HTTP.PublicURL = "example.com" },
		"http.tls_cert":        func(c *Config) { c.HTTP.TLSCert = "server.crt" },
		"http.tls_listen":      func(c *Config) { c.HTTP.TLSCert, c.HTTP.TLSKey, c.HTTP.ListenTLS = "server.crt", "server.key", "8885" },
		"deduplication_window": func(c *Config) { c.Radio.DeduplicationWindow = time.Minute },
		"retention":            func(c *Config) { c.Store.Retention = 0 },
		"key_encryption_key":   func(c *Config) { c.Cluster.URL = "nats://a:4222" },
		"nats.user":            func(c *Config) { c.Cluster.URL = "nats://me:hush@a:4222" },
		"nats://host:4222":     func(c *Config) { c.Cluster.URL = "a:4222" },
		"cluster.lease":        func(c *Config) { c.Cluster.URL, c.Cluster.Lease = "nats://a:4222", time.Millisecond },
		"cluster.replicas":     func(c *Config) { c.Cluster.URL, c.Cluster.Replicas = "nats://a:4222", 2 },
		"cluster.namespace":    func(c *Config) { c.Cluster.URL, c.Cluster.Namespace = "nats://a:4222", "Lorikeet" },
		"tls_cert":             func(c *Config) { c.Cluster.URL, c.Cluster.TLSCert = "nats://a:4222", "x" },
		"embedded_nats.secret": func(c *Config) { c.Cluster.URL, c.Embedded.Peers = "embedded", "a:6222,b:6222" },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
		if err := c.Validate(); err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("a password is in %v", err)
		}
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	env := map[string]string{
		"LORIKEET_UDP": "127.0.0.1:0", "LORIKEET_HTTP_LISTEN": ":80", "LORIKEET_ADMIN_KEY": "k", "LORIKEET_UDP_AUTO_REGISTER": "false",
		"LORIKEET_STORE_RETENTION": "48h",
	}
	c := DefaultConfig()
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	if err := c.readEnv(lookup); err != nil {
		t.Fatal(err)
	}
	if c.UDP.Listen != "127.0.0.1:0" || c.HTTP.Listen != ":80" || c.AdminKey != "k" || c.UDP.AutoRegister || c.Store.Retention != 48*time.Hour {
		t.Fatalf("got %+v", c)
	}
	env["LORIKEET_STORE_RETENTION"] = "soon"
	if err := c.readEnv(lookup); err == nil || !strings.Contains(err.Error(), "LORIKEET_STORE_RETENTION") {
		t.Fatalf("got %v", err)
	}
}

func TestMisspelledVariablesAreNamed(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	got := c.unknownVariables([]string{
		"LORIKEET_STORE_RETENTOIN=hush", "LORIKEET_WORD=", "PATH=/bin", "LORIKEET_HTTP=:80", "LORIKEET_HTTP_LISTEN=:80", "LORIKEET_API_KEY=k", "LORIKEET_CLUSTER_NODE=a",
		// of a Kubernetes service named lorikeet
		"LORIKEET_SERVICE_HOST=10.0.0.1", "LORIKEET_SERVICE_PORT=1885", "LORIKEET_SERVICE_PORT_HTTP=1885", "LORIKEET_PORT=tcp://10.0.0.1:1885", "LORIKEET_PORT_1700_UDP_ADDR=10.0.0.1",
	})
	if diff := cmp.Diff([][2]string{{"LORIKEET_STORE_RETENTOIN", "LORIKEET_STORE_RETENTION"}, {"LORIKEET_WORD", ""}}, got); diff != "" {
		t.Error(diff)
	}
}
