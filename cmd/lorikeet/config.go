package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lorikeet/messages"
)

// Secret is a text that never prints itself.
type Secret string

func (Secret) String() string       { return "<secret>" }
func (Secret) GoString() string     { return "<secret>" }
func (Secret) LogValue() slog.Value { return slog.StringValue("<secret>") }
func (s Secret) MarshalYAML() (any, error) {
	if s == "" {
		return "", nil
	}
	return "<secret>", nil
}

// Config is the whole configuration of a server. The doc tags are printed by `lorikeet config`.
type Config struct {
	Data     string        `yaml:"data" doc:"folder of the store; made if it is missing"`
	AdminKey Secret        `yaml:"admin_key" doc:"admin API key; empty: one is made at the first start and printed once"`
	KEK      Secret        `yaml:"key_encryption_key" doc:"32 bytes in hex or base64 that seal the stored keys; empty: made once, kept in the data folder"`
	NetID    string        `yaml:"net_id" doc:"NetID of the network, 6 hex digits"`
	KEKs     KEKs          `yaml:"keks" doc:"key-encryption keys that wrap and open keys of devices (RFC 3394), label: 32, 48 or 64 hex digits; the same on all nodes"`
	Network  NetworkConfig `yaml:"network"`
	Log      LogConfig     `yaml:"log"`
	HTTP     HTTPConfig    `yaml:"http"`
	API      APIConfig     `yaml:"api"`
	MQTT     MQTTConfig    `yaml:"mqtt"`
	UDP      UDPConfig     `yaml:"udp"`
	Radio    RadioConfig   `yaml:"radio"`
	Store    StoreConfig   `yaml:"store"`
	Webhooks WebhookConfig `yaml:"webhooks"`
	Scripts  ScriptConfig  `yaml:"formatters"`
	Cluster  ClusterConfig `yaml:"cluster"`
	NATS     NATSConfig    `yaml:"nats"`
	Embedded EmbeddedNATS  `yaml:"embedded_nats"`
}

// KEKs are hex digits by label.
type KEKs map[string]Secret

// NetworkConfig is what messages say of the network in network_ids, beside the NetID.
type NetworkConfig struct {
	NSID           string `yaml:"ns_id" doc:"EUI of the network server, 16 hex digits, shown in network_ids of messages"`
	TenantID       string `yaml:"tenant_id" doc:"tenant shown in network_ids of messages"`
	ClusterID      string `yaml:"cluster_id" doc:"cluster shown in network_ids of messages"`
	ClusterAddress string `yaml:"cluster_address" doc:"host name shown in network_ids of messages; empty: that of http.public_url"`
	TenantAddress  string `yaml:"tenant_address" doc:"host name of the tenant shown in network_ids of messages"`
}

type LogConfig struct {
	Level  string `yaml:"level" doc:"debug, info, warn or error"`
	Format string `yaml:"format" doc:"text or json"`
}

type HTTPConfig struct {
	Listen    string `yaml:"listen" doc:"address of the REST API, host:port; port 0 takes any free one"`
	ListenTLS string `yaml:"tls_listen" doc:"address of the REST API over TLS, in use with tls_cert"`
	TLSCert   string `yaml:"tls_cert" doc:"certificate chain (PEM); read again when the file changes"`
	TLSKey    string `yaml:"tls_key" doc:"its key (PEM)"`
	PublicURL string `yaml:"public_url" doc:"how webhooks reach this server to push downlinks; empty: localhost and the port, of TLS if there is a certificate"`
}

// tlsListen is the address for TLS; "" without a certificate.
func (c *HTTPConfig) tlsListen() string {
	if c.TLSCert == "" {
		return ""
	}
	return c.ListenTLS
}

func (c *HTTPConfig) validate() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("http.tls_cert, tls_key: give both, or none")
	}
	if c.tlsListen() != "" && !goodAddress(c.ListenTLS) {
		bad("http.tls_listen %q: use host:port or :port", c.ListenTLS)
	}
	if c.PublicURL != "" {
		if u, err := url.Parse(c.PublicURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			bad("http.public_url %q: use a URL such as https://lorikeet.example.com", c.PublicURL)
		}
	}
	return errs
}

type APIConfig struct {
	Input       string `yaml:"input" doc:"strict: wrong input is refused, with what to send instead; lenient: it is taken as The Things Stack takes it. For REST, MQTT, webhooks and pub/sub"`
	DevEUIBlock string `yaml:"dev_eui_block" doc:"block of DevEUIs that the API issues, as its first EUI and the number of fixed bits, e.g. 70B3D57ED0000000/40; empty: random locally administered ones"`
}

type UDPConfig struct {
	Listen       string `yaml:"listen" doc:"address for radio gateways that speak Semtech UDP; empty: none"`
	AutoRegister bool   `yaml:"auto_register" doc:"register radio gateways on first sight; false: unknown ones are ignored"`
}

type RadioConfig struct {
	DeduplicationWindow time.Duration `yaml:"deduplication_window" doc:"how long copies of an uplink are awaited at most"`
	MaxInFlight         int64         `yaml:"max_in_flight" doc:"frames in work; beyond it the newest are dropped"`
	PassivateAfter      time.Duration `yaml:"passivate_after" doc:"an idle device leaves memory after this time"`
	DutyCycle           bool          `yaml:"duty_cycle" doc:"keep each radio gateway within the duty cycle of 863 to 870 MHz (ETSI EN 300 220): other windows and radio gateways are tried, then the downlink waits for the next uplink"`
}

type StoreConfig struct {
	Retention    time.Duration `yaml:"retention" doc:"how long events are kept for integrations and replay"`
	MinFreeBytes int64         `yaml:"min_free_bytes" doc:"below this much free disk nothing more is accepted; 0: chosen by the size of the disk"`
}

type WebhookConfig struct {
	AllowPrivateNetworks bool   `yaml:"allow_private_networks" doc:"webhooks and pub/sub may connect to loopback and private addresses; turn it off where tenants are not trusted"`
	AllowedNetworks      string `yaml:"allowed_networks" doc:"addresses and networks that they may connect to in any case, with commas between, e.g. 10.1.0.0/16"`
	Templates            string `yaml:"templates" doc:"folder with webhook templates (YAML) beside the built-in ones; empty: none"`
}

type ScriptConfig struct {
	Workers int           `yaml:"workers" doc:"processes that run payload formatters; 0: one per core"`
	Timeout time.Duration `yaml:"timeout" doc:"CPU time of one call of a script"`

	Repository string `yaml:"repository" doc:"folder of a device repository (vendor/index.yaml, ...) with the codecs of FORMATTER_REPOSITORY; empty: none"`
}

type ClusterConfig struct {
	URL          string        `yaml:"url" doc:"NATS servers with JetStream that hold the state of the cluster, nats://host:port with commas between, or \"embedded\"; empty: a single node"`
	Node         string        `yaml:"node" doc:"name of this node, unique in the cluster and the same after a restart; empty: the host name"`
	Listen       string        `yaml:"listen" doc:"address for the other nodes"`
	Advertise    string        `yaml:"advertise" doc:"host:port by which the other nodes reach this one; empty: the host name or listen address"`
	Lease        time.Duration `yaml:"lease" doc:"a node that is silent for this long is replaced"`
	SuspendLimit time.Duration `yaml:"suspend_limit" doc:"a node that can't reach NATS for this long ends"`
	Namespace    string        `yaml:"namespace" doc:"prefix of streams and subjects; clusters with different ones can share NATS servers"`
	Replicas     int           `yaml:"replicas" doc:"copies of every record: 1, 3 or 5; 0: as it is, at first 3 with three or more embedded servers, else 1"`
	Streams      int           `yaml:"streams" doc:"journal streams, over which applications are spread; fixed when the cluster is made"`
	TLSCert      string        `yaml:"tls_cert" doc:"certificate of this node for the other nodes (PEM); empty: no TLS between nodes"`
	TLSKey       string        `yaml:"tls_key" doc:"its key (PEM)"`
	TLSCA        string        `yaml:"tls_ca" doc:"certificates that sign those of the nodes (PEM)"`
}

type NATSConfig struct {
	Credentials string `yaml:"credentials" doc:"credentials file (.creds)"`
	NKey        string `yaml:"nkey" doc:"file with an NKey seed"`
	User        string `yaml:"user" doc:"user name"`
	Password    Secret `yaml:"password" doc:"password"`
	Token       Secret `yaml:"token" doc:"token"`
	CA          string `yaml:"ca" doc:"certificates that sign those of the servers (PEM)"`
	Cert        string `yaml:"cert" doc:"client certificate (PEM)"`
	Key         string `yaml:"key" doc:"its key (PEM)"`
	Domain      string `yaml:"domain" doc:"JetStream domain, where it is reached through a leaf node; empty: that of the server"`
}

type EmbeddedNATS struct {
	Listen        string `yaml:"listen" doc:"address of the embedded NATS server for other NATS clients; empty: none but this process"`
	ClusterListen string `yaml:"cluster_listen" doc:"address of the embedded NATS server for those of the other nodes"`
	Peers         string `yaml:"peers" doc:"host:port of the cluster_listen of all nodes, with commas between; empty: this node alone"`
	Secret        Secret `yaml:"secret" doc:"what the embedded servers show each other; the same on all nodes"`
}

// clustered says whether this node is one of many.
func (c *Config) clustered() bool { return c.Cluster.URL != "" }

// embedded says whether this node runs a NATS server.
func (c *Config) embedded() bool { return c.Cluster.URL == "embedded" }

// DefaultConfig is safe to run with as it is.
func DefaultConfig() Config {
	return Config{
		Data: "lorikeet-data", NetID: "000000", KEKs: KEKs{},
		Log:      LogConfig{Level: "info", Format: "text"},
		HTTP:     HTTPConfig{Listen: ":1885", ListenTLS: ":8885"},
		API:      APIConfig{Input: "strict"},
		MQTT:     defaultMQTT(),
		UDP:      UDPConfig{Listen: ":1700", AutoRegister: true},
		Radio:    RadioConfig{DeduplicationWindow: 200 * time.Millisecond, MaxInFlight: 20000, PassivateAfter: 5 * time.Minute},
		Store:    StoreConfig{Retention: 30 * 24 * time.Hour},
		Webhooks: WebhookConfig{AllowPrivateNetworks: true},
		Scripts:  ScriptConfig{Timeout: 100 * time.Millisecond},
		Cluster:  ClusterConfig{Listen: ":1886", Lease: 2 * time.Second, SuspendLimit: time.Minute, Namespace: "lorikeet", Streams: 8},
		Embedded: EmbeddedNATS{ClusterListen: ":6222"},
	}
}

// Validate says what to change if the configuration can't work.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		bad("data: name a folder for the store")
	}
	if _, err := parseNetID(c.NetID); err != nil {
		bad("net_id: %w", err)
	}
	if _, err := c.KEKs.parse(); err != nil {
		bad("keks: %w", err)
	}
	if _, err := messages.ParseEUI64(c.Network.NSID); c.Network.NSID != "" && err != nil {
		bad("network.ns_id: %w", err)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level %q: use debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format %q: use text or json", c.Log.Format)
	}
	if !goodAddress(c.HTTP.Listen) {
		bad("http.listen %q: use host:port or :port", c.HTTP.Listen)
	}
	if c.UDP.Listen != "" && !goodAddress(c.UDP.Listen) {
		bad("udp.listen %q: use host:port or :port", c.UDP.Listen)
	}
	errs = append(errs, c.MQTT.validate()...)
	errs = append(errs, c.HTTP.validate()...)
	errs = append(errs, c.API.validate()...)
	if _, err := c.Webhooks.guard(); err != nil {
		errs = append(errs, err)
	}
	if c.Radio.DeduplicationWindow < 0 || c.Radio.DeduplicationWindow > 2*time.Second {
		bad("radio.deduplication_window %s: use 0s to 2s", c.Radio.DeduplicationWindow)
	}
	if c.Radio.MaxInFlight < 1 {
		bad("radio.max_in_flight %d: use 1 or more", c.Radio.MaxInFlight)
	}
	if c.Store.Retention < time.Minute {
		bad("store.retention %s: use 1m or more", c.Store.Retention)
	}
	if c.Scripts.Timeout < 10*time.Millisecond || c.Scripts.Timeout > 10*time.Second {
		bad("formatters.timeout %s: use 10ms to 10s", c.Scripts.Timeout)
	}
	if c.clustered() {
		errs = append(errs, c.validateCluster()...)
	}
	return errors.Join(errs...)
}

var (
	namePattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	namespacePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`) // as in persistence/jetstream
)

func (c *Config) validateCluster() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.KEK == "" {
		bad("key_encryption_key: a cluster needs the same one on all nodes; make it with: head -c 32 /dev/urandom | base64")
	}
	if c.Cluster.Node != "" && !namePattern.MatchString(c.Cluster.Node) {
		bad("cluster.node %q: use letters, digits, dot, dash and underscore, at most 63", c.Cluster.Node)
	}
	if !namespacePattern.MatchString(c.Cluster.Namespace) {
		bad("cluster.namespace %q: use up to 32 lower-case letters, digits and dashes", c.Cluster.Namespace)
	}
	addresses := [][2]string{{"cluster.listen", c.Cluster.Listen}, {"cluster.advertise", c.Cluster.Advertise}}
	if c.embedded() {
		addresses = append(addresses, [2]string{"embedded_nats.listen", c.Embedded.Listen}, [2]string{"embedded_nats.cluster_listen", c.Embedded.ClusterListen})
		if c.Embedded.Peers != "" && c.Embedded.Secret == "" {
			bad("embedded_nats.secret: the embedded NATS servers need the same one on all nodes")
		}
	} else if strings.Contains(c.Cluster.URL, "@") {
		bad("cluster.url: leave user and password out of it and give them as nats.user and nats.password")
	} else if !strings.Contains(c.Cluster.URL, "://") {
		bad("cluster.url %q: use nats://host:4222, or embedded", c.Cluster.URL)
	}
	for _, a := range addresses {
		if a[1] != "" && !goodAddress(a[1]) {
			bad("%s %q: use host:port or :port", a[0], a[1])
		}
	}
	if c.Cluster.Lease < time.Second || c.Cluster.Lease > time.Minute {
		bad("cluster.lease %s: use 1s to 1m", c.Cluster.Lease)
	}
	if c.Cluster.SuspendLimit < c.Cluster.Lease {
		bad("cluster.suspend_limit %s: use at least the lease", c.Cluster.SuspendLimit)
	}
	if !slices.Contains([]int{0, 1, 3, 5}, c.Cluster.Replicas) {
		bad("cluster.replicas %d: use 1, 3 or 5, or 0 to choose by the number of NATS servers", c.Cluster.Replicas)
	}
	if c.Cluster.Streams < 1 || c.Cluster.Streams > 256 {
		bad("cluster.streams %d: use 1 to 256", c.Cluster.Streams)
	}
	if (c.Cluster.TLSCert == "") != (c.Cluster.TLSKey == "") || (c.Cluster.TLSCert == "") != (c.Cluster.TLSCA == "") {
		bad("cluster.tls_cert, tls_key and tls_ca: give all three, or none")
	}
	return errs
}

func parseNetID(s string) (id [3]byte, err error) {
	if len(s) != 6 {
		return id, fmt.Errorf("%q: use 6 hex digits", s)
	}
	if _, err := fmt.Sscanf(s, "%02x%02x%02x", &id[0], &id[1], &id[2]); err != nil {
		return id, fmt.Errorf("%q: use 6 hex digits", s)
	}
	return id, nil
}

// readFile takes over what the file says. An unknown key is an error that names the line.
func (c *Config) readFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %s", path, c.explainYAML(err))
	}
	return nil
}

// readEnv takes over LORIKEET_<SECTION>_<KEY>; lookup is os.LookupEnv. The short names of the flags work too.
func (c *Config) readEnv(lookup func(string) (string, bool)) error {
	var errs []error
	c.each(func(path string, _ string, field reflect.Value) {
		for _, name := range variables(path) {
			if text, ok := lookup(name); ok {
				if err := setField(field, text); err != nil {
					errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
				}
			}
		}
	})
	return errors.Join(errs...)
}

// setField reads text as YAML would.
func setField(field reflect.Value, text string) error {
	if field.Kind() == reflect.String {
		field.SetString(text)
		return nil
	}
	if err := yaml.Unmarshal([]byte(text), field.Addr().Interface()); err != nil {
		return fmt.Errorf("use %s", wanted(field.Type().String()))
	}
	return nil
}

// each visits every key with its path, its doc tag and its value.
func (c *Config) each(visit func(path, doc string, field reflect.Value)) {
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			path := prefix + f.Tag.Get("yaml")
			if f.Type.Kind() == reflect.Struct {
				walk(path+".", v.Field(i))
				continue
			}
			visit(path, f.Tag.Get("doc"), v.Field(i))
		}
	}
	walk("", reflect.ValueOf(c).Elem())
}

// Write prints the configuration as a file that can be read back, each key with what it means. Secrets are left out.
func (c *Config) Write(w io.Writer) error {
	section := ""
	var err error
	c.each(func(path, doc string, field reflect.Value) {
		key, indent := path, ""
		if s, rest, ok := strings.Cut(path, "."); ok {
			if s != section {
				section = s
				_, err = fmt.Fprintf(w, "\n%s:\n", s)
			}
			key, indent = rest, "  "
		}
		value, e := yaml.Marshal(field.Interface())
		if d, ok := field.Interface().(time.Duration); ok {
			value = []byte(d.String() + "\n")
		}
		if secret, ok := field.Interface().(Secret); ok && secret != "" {
			value = []byte("\"\" # set, not shown\n")
		}
		if keks, ok := field.Interface().(KEKs); ok && len(keks) > 0 {
			value = []byte("{} # set, not shown\n")
		}
		if e != nil {
			err = e
		}
		_, e = fmt.Fprintf(w, "%s# %s; environment: %s\n%s%s: %s", indent, doc, variables(path)[0], indent, key, value)
		if e != nil {
			err = e
		}
	})
	return err
}
