package simulator

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/messages"
)

// flights are the uplinks of one session that are under way to the application: by FCnt, from first on. A value is the time of
// sending in ns since the start of the run plus 1; negative: seen; 0: not sent by this run.
type flights struct {
	addr  messages.DevAddr
	first uint32
	at    []int64
}

// tracker compares the events of the application with the uplinks that were sent. It is safe for concurrent use.
type tracker struct {
	mu        sync.Mutex
	start     time.Time
	devices   map[string][]*flights // by device id, newest session last
	sent      uint64
	seen      uint64
	duplicate uint64
	unknown   uint64
	joins     uint64
	down      map[string]uint64 // by last part of the topic
	latency   histogram
}

func newTracker(start time.Time) *tracker {
	return &tracker{start: start, devices: map[string][]*flights{}, down: map[string]uint64{}}
}

// leave notes an uplink just before it is sent.
func (t *tracker) leave(device string, addr messages.DevAddr, fCnt uint32) {
	now := int64(time.Since(t.start)) + 1
	t.mu.Lock()
	defer t.mu.Unlock()
	sessions := t.devices[device]
	if len(sessions) == 0 || sessions[len(sessions)-1].addr != addr {
		sessions = append(sessions, &flights{addr: addr, first: fCnt})
		t.devices[device] = sessions
	}
	f := sessions[len(sessions)-1]
	for fCnt-f.first >= uint32(len(f.at)) {
		f.at = append(f.at, 0)
	}
	f.at[fCnt-f.first] = now
	t.sent++
}

// arrive counts an event. topic is v3/{application}/devices/{device}/...
func (t *tracker) arrive(topic string, payload []byte) {
	now := int64(time.Since(t.start)) + 1
	_, rest, ok := strings.Cut(topic, "/devices/")
	device, kind, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return
	}
	isUplink := kind == "up"
	var (
		addr  messages.DevAddr
		fCnt  uint32
		valid bool
	)
	if isUplink {
		addr, fCnt, valid = scanUplink(payload)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch name, isDown := strings.CutPrefix(kind, "down/"); {
	case isUplink && !valid:
		t.unknown++
	case isUplink:
		t.arriveUplink(device, addr, fCnt, now)
	case kind == "join":
		t.joins++
	case isDown && name != "push" && name != "replace": // those are our own
		t.down[name]++
	}
}

func (t *tracker) arriveUplink(device string, addr messages.DevAddr, fCnt uint32, now int64) {
	for _, f := range t.devices[device] {
		i := fCnt - f.first
		if f.addr != addr || i >= uint32(len(f.at)) || f.at[i] == 0 {
			continue
		}
		if f.at[i] < 0 {
			t.duplicate++
			return
		}
		t.seen++
		t.latency.add(time.Duration(now - f.at[i]))
		f.at[i] = -f.at[i]
		return
	}
	t.unknown++
}

// complete says whether every uplink was seen.
func (t *tracker) complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen >= t.sent
}

// watch connects to the MQTT broker, or to one of several, and hands on what comes. It returns once the subscriptions are granted.
func watch(ctx context.Context, cfg Config, apiKey string, arrive func(topic string, payload []byte)) (mqtt.Client, error) {
	filter := "v3/" + cfg.ApplicationID + "/devices/+/"
	filters := map[string]byte{filter + "up": cfg.QoS, filter + "join": cfg.QoS, filter + "down/+": cfg.QoS}
	handle := func(_ mqtt.Client, m mqtt.Message) { arrive(m.Topic(), m.Payload()) }
	subscribed := make(chan error, 1)
	o := mqtt.NewClientOptions().SetUsername(cfg.ApplicationID).SetPassword(apiKey).
		SetClientID(fmt.Sprintf("simulator-%x", digest(cfg.Seed, cfg.ApplicationID, 0))[:22]).SetCleanSession(!cfg.Persistent).
		SetConnectTimeout(5 * time.Second).SetMaxReconnectInterval(time.Second).SetDefaultPublishHandler(handle).
		SetOnConnectHandler(func(c mqtt.Client) {
			token := c.SubscribeMultiple(filters, handle)
			go func() { // the handler must not wait for the broker's answer
				token.Wait()
				err := token.Error()
				if s, ok := token.(*mqtt.SubscribeToken); ok && err == nil {
					err = granted(s.Result())
				}
				select {
				case subscribed <- err:
				default:
				}
			}()
		})
	brokers := strings.Split(cfg.MQTT, ",")
	for _, b := range brokers {
		o.AddBroker(b)
	}
	if len(brokers) > 1 { // a node that hangs is to be noticed
		o.SetKeepAlive(2 * time.Second).SetPingTimeout(2 * time.Second).SetConnectTimeout(2 * time.Second).SetWriteTimeout(2 * time.Second)
	}
	if u, err := url.Parse(brokers[0]); err == nil && (u.Scheme == "tcp" || u.Scheme == "mqtt") {
		o.SetCustomOpenConnectionFn(dialBuffered)
	}
	c := mqtt.NewClient(o)
	token := c.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		return nil, fmt.Errorf("MQTT %s: %w", cfg.MQTT, err)
	}
	select {
	case err := <-subscribed:
		if err != nil {
			c.Disconnect(0)
			return nil, fmt.Errorf("MQTT %s: subscribe: %w", cfg.MQTT, err)
		}
		return c, nil
	case <-ctx.Done():
		c.Disconnect(0)
		return nil, ctx.Err()
	}
}

func granted(codes map[string]byte) error {
	for filter, code := range codes {
		if code > 2 {
			return fmt.Errorf("the broker refuses %s: does the API key belong to the application?", filter)
		}
	}
	return nil
}

// bufferedConn saves paho, which reads a header byte by byte, three of four system calls.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func dialBuffered(uri *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", uri.Host, o.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	return bufferedConn{c, bufio.NewReaderSize(c, 64<<10)}, nil
}
