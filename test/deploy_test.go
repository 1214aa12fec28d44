package test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

const deployFiles = "../docs/deploy/"

// TestDeploymentsNameKnownSettings compares the environment variables in the files for Docker and Kubernetes with those that the server reads: a wrong one
// would be passed over.
func TestDeploymentsNameKnownSettings(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	printed, err := exec.Command(path, "config").Output()
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`LORIKEET_[A-Z_]+`)
	known := map[string]bool{}
	for _, name := range variable.FindAllString(string(printed), -1) {
		known[name] = true
	}
	for _, file := range []string{"Dockerfile", "compose.yaml", "kubernetes/lorikeet.yaml"} {
		b, err := os.ReadFile(deployFiles + file)
		if err != nil {
			t.Fatal(err)
		}
		names := variable.FindAllString(string(b), -1)
		if len(names) == 0 {
			t.Errorf("%s names no settings", file)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s: there is no setting %s", file, name)
			}
		}
	}
}

// TestDeployedNATSKeepsWhatItAcknowledges reads the configuration of the NATS servers as they do.
func TestDeployedNATSKeepsWhatItAcknowledges(t *testing.T) {
	const password = "0e12345678901234567890123456789k" // begins as a number does
	t.Setenv("NATS_PASSWORD", password)
	o, err := natsserver.ProcessConfigFile(deployFiles + "nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !o.JetStream || !o.SyncAlways || o.StoreDir == "" || o.MaxPayload != 8<<20 || o.JetStreamLimits.MaxBatchSize < 5000 {
		t.Errorf("JetStream %t in %q, sync always %t, max_payload %d, batches of %d", o.JetStream, o.StoreDir, o.SyncAlways, o.MaxPayload, o.JetStreamLimits.MaxBatchSize)
	}
	if o.Username != "lorikeet" || o.Password != password || o.Cluster.Name == "" || len(o.Routes) != 3 {
		t.Errorf("user %q, the password is right: %t, cluster %q with %d routes", o.Username, o.Password == password, o.Cluster.Name, len(o.Routes))
	}
}
