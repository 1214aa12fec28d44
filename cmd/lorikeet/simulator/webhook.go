package simulator

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/messages"
)

// webhookReceiver is the HTTP endpoint of a webhook that lives as long as a run.
type webhookReceiver struct {
	id  string // of the webhook
	url string
}

var bodySeed = maphash.MakeSeed()

// openJudge starts the judge and what feeds it: the webhook's endpoint and the marks. stop ends both.
func (r *run) openJudge(ctx context.Context) (stop func(), err error) {
	l, err := net.Listen("tcp", r.cfg.WebhookListen)
	if err != nil {
		return nil, fmt.Errorf("webhook receiver: %w", err)
	}
	r.judge = newJudge()
	r.judge.acceptedNow = r.cfg.Accepted
	r.hook = &webhookReceiver{id: fmt.Sprintf("simulator-%x", digest(r.cfg.Seed, l.Addr().String(), 0))[:20], url: "http://" + l.Addr().String()}
	s := &http.Server{Handler: http.HandlerFunc(r.serveWebhook), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }() // ends with Close
	ctx, cancel := context.WithCancel(ctx)
	if r.cfg.Marks != nil {
		go func() {
			for {
				select {
				case m := <-r.cfg.Marks:
					r.judge.mark(m, m.At.Sub(r.start))
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return func() {
		cancel()
		_ = s.Close()
	}, nil
}

// serveWebhook takes one event. The path is /{type}/{device id}.
func (r *run) serveWebhook(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	parts := strings.Split(req.URL.Path, "/")
	if err != nil || len(parts) != 3 {
		http.Error(w, "want an event at /{type}/{device id}", http.StatusBadRequest)
		return
	}
	r.judge.arrive(r.arrival(byWebhook, messages.EventType(parts[1]), parts[2], req.Header.Get("X-Event-Id"), body))
}

func (r *run) arrival(by receiver, kind messages.EventType, device, id string, body []byte) arrival {
	a := arrival{by: by, kind: kind, device: device, eventID: id, body: maphash.Bytes(bodySeed, body), at: time.Since(r.start)}
	if kind == messages.EventUplink {
		a.addr, a.fCnt, _ = scanUplink(body) // what is no uplink message matches none that was sent
	}
	if kind == messages.EventDownQueued {
		if _, rest, ours := bytes.Cut(body, []byte(`"simulator:`)); ours {
			n := uint64(scanNumber(rest))
			a.push = &n
		}
	}
	return a
}

// live takes one event from MQTT.
func (r *run) live(topic string, payload []byte) {
	r.events.arrive(topic, payload)
	if r.judge != nil {
		r.witness(topic, payload)
	}
	if r.cfg.Event != nil {
		r.cfg.Event(topic, payload)
	}
}

// watchEach subscribes at every one of several brokers, so that the judge knows of an acceptance wherever it is told first. What one broker misses while
// it is away is no fault.
func (r *run) watchEach(ctx context.Context, apiKey string) (stop func(), err error) {
	var clients []mqtt.Client
	stop = func() {
		for _, c := range clients {
			c.Disconnect(0)
		}
	}
	brokers := strings.Split(r.cfg.MQTT, ",")
	if r.judge == nil || len(brokers) < 2 {
		return stop, nil
	}
	for i, broker := range brokers {
		cfg := r.cfg
		cfg.MQTT, cfg.Seed, cfg.Persistent = broker, cfg.Seed+1+uint64(i), false // the seed makes the client id
		c, err := watch(ctx, cfg, apiKey, r.witness)
		if err != nil {
			return stop, err
		}
		clients = append(clients, c)
	}
	return stop, nil
}

// witness tells the judge of one event from MQTT.
func (r *run) witness(topic string, payload []byte) {
	_, rest, _ := strings.Cut(topic, "/devices/")
	if device, isUplink := strings.CutSuffix(rest, "/up"); isUplink {
		r.judge.arrive(r.arrival(byMQTT, messages.EventUplink, device, "", payload))
	}
}

// leave notes an uplink just before it is on air.
func (r *run) leave(p *player, addr messages.DevAddr, t Transmission) {
	r.events.leave(p.id.DeviceID, addr, t.FCnt)
	if r.judge != nil {
		r.judge.sent(p.id.DeviceID, addr, t)
	}
}

// delivered says whether there is nothing to wait for.
func (r *run) delivered() bool {
	if r.judge != nil {
		return r.judge.complete(time.Since(r.start), r.ended)
	}
	return r.mqtt == nil || r.events.complete()
}

func (r *run) stopped() bool {
	select {
	case <-r.cfg.Stop:
		return true
	default:
		return false
	}
}
