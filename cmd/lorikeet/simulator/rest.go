package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

// Client speaks the part of The Things Stack's v3 REST API that provisioning needs. It is safe for concurrent use.
type Client struct {
	bases []string
	now   atomic.Int32 // index of the base that answered last
	key   string
	http  *http.Client
}

// NewClient makes a client for the API at base (http://host:port) with an API key that has the rights of an administrator. Several bases, separated by
// commas, are nodes of one cluster: a request that gets no answer from one, or 503, is made again at the next.
func NewClient(base, key string) *Client {
	c := &Client{key: key}
	for _, b := range strings.Split(base, ",") {
		c.bases = append(c.bases, strings.TrimSuffix(b, "/")+"/api/v3")
	}
	timeout := 30 * time.Second
	if len(c.bases) > 1 {
		timeout = 5 * time.Second // a node may hang; the next answers
	}
	c.http = &http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: provisionWorkers, MaxConnsPerHost: provisionWorkers}}
	return c
}

const provisionWorkers = 32

// StatusError is an answer of the API other than 2xx.
type StatusError struct {
	Method, Path string
	Code         int
	Body         string // at most 1 KiB
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: HTTP %d: %s", e.Method, e.Path, e.Code, e.Body)
}

// rounds is how often a request is tried at each of several servers, with a pause after each round.
const rounds = 5

// Do sends in as JSON and reads the answer into out; either may be nil. Paths start after /api/v3. With several servers a request whose answer was
// lost is made again, so it may take effect twice.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	if len(c.bases) == 1 {
		return c.try(ctx, c.bases[0], method, path, body, out)
	}
	var err error
	for n := range rounds * len(c.bases) {
		at := c.now.Load()
		if err = c.try(ctx, c.bases[at], method, path, body, out); err == nil || ctx.Err() != nil {
			return err
		}
		if e, ok := err.(*StatusError); ok && e.Code != http.StatusServiceUnavailable {
			return err
		}
		c.now.CompareAndSwap(at, (at+1)%int32(len(c.bases)))
		if n%len(c.bases) == len(c.bases)-1 {
			sleep(ctx, time.Second)
		}
	}
	return err
}

// try makes one request at one server.
func (c *Client) try(ctx context.Context, base, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return &StatusError{method, path, resp.StatusCode, string(answer[:min(len(answer), 1<<10)])}
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// create is Do with POST, and true if the thing was there already (409).
func (c *Client) create(ctx context.Context, path string, in any) (existed bool, err error) {
	err = c.Do(ctx, http.MethodPost, path, in, nil)
	if e, ok := err.(*StatusError); ok && e.Code == http.StatusConflict {
		return true, nil
	}
	return false, err
}

type object = map[string]any

// CreateApplication makes an application of the user admin. One that exists is left as it is.
func (c *Client) CreateApplication(ctx context.Context, app string) error {
	_, err := c.create(ctx, "/users/admin/applications", object{"application": object{"ids": object{"application_id": app}}})
	return err
}

// SetFormatter makes f the default formatter of the application, for uplinks and downlinks.
func (c *Client) SetFormatter(ctx context.Context, app string, f messages.Formatter) error {
	formatters := object{"up_formatter": f.Kind, "down_formatter": f.Kind}
	if f.Parameter != "" {
		formatters["up_formatter_parameter"], formatters["down_formatter_parameter"] = f.Parameter, f.Parameter
	}
	return c.Do(ctx, http.MethodPut, "/as/applications/"+app+"/link", object{"link": object{"default_formatters": formatters}}, nil)
}

// CreateAPIKey makes a key with all rights on the application and gives its secret.
func (c *Client) CreateAPIKey(ctx context.Context, app, name string) (string, error) {
	var out struct {
		Key string `json:"key"`
	}
	err := c.Do(ctx, http.MethodPost, "/applications/"+app+"/api-keys", object{"name": name, "rights": []string{"RIGHT_APPLICATION_ALL"}}, &out)
	if err == nil && out.Key == "" {
		err = fmt.Errorf("POST /applications/%s/api-keys: the answer holds no key", app)
	}
	return out.Key, err
}

// CreateDevice registers a device in one call; existed says that it was there already.
func (c *Client) CreateDevice(ctx context.Context, app string, id Identity, region Region, subBand int) (existed bool, err error) {
	plan := "EU_863_870_TTN"
	if region == US915 {
		plan = fmt.Sprintf("US_902_928_FSB_%d", max(subBand, 1))
	}
	device := object{
		"ids":             object{"device_id": id.DeviceID, "dev_eui": id.DevEUI, "join_eui": id.JoinEUI, "application_ids": object{"application_id": app}},
		"lorawan_version": "MAC_V1_0_3", "lorawan_phy_version": "PHY_V1_0_3_REV_A", "frequency_plan_id": plan, "supports_join": id.ABP == nil,
	}
	if id.ABP == nil {
		device["root_keys"] = object{"app_key": object{"key": id.AppKey.Hex()}}
	} else {
		device["session"] = object{"dev_addr": id.ABP.DevAddr, "keys": object{
			"f_nwk_s_int_key": object{"key": id.ABP.NwkSKey.Hex()}, "app_s_key": object{"key": id.ABP.AppSKey.Hex()}}}
	}
	return c.create(ctx, "/applications/"+app+"/devices", object{"end_device": device})
}

// CreateDevices registers all devices, several at a time, and gives how many were there already. The first error ends it.
func (c *Client) CreateDevices(ctx context.Context, app string, ids []Identity, region Region, subBand int) (existed int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan Identity)
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for range min(provisionWorkers, len(ids)) {
		wg.Go(func() {
			for id := range work {
				was, err := c.CreateDevice(ctx, app, id, region, subBand)
				if err != nil {
					cancel(fmt.Errorf("device %s: %w", id.DeviceID, err))
					return
				}
				if was {
					mu.Lock()
					existed++
					mu.Unlock()
				}
			}
		})
	}
feed:
	for _, id := range ids {
		select {
		case work <- id:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	return existed, context.Cause(ctx)
}

// SetWebhook makes (or replaces) a webhook that gets every type of event below its base URL, at /{type}/{device id}.
func (c *Client) SetWebhook(ctx context.Context, app, id, baseURL string) error {
	hook := object{"ids": object{"webhook_id": id}, "base_url": baseURL, "format": "json"}
	for _, kind := range []string{"uplink_message", "join_accept", "downlink_ack", "downlink_nack", "downlink_sent", "downlink_failed", "downlink_queued"} {
		hook[kind] = object{"path": "/" + kind + "{/devID}"}
	}
	return c.Do(ctx, http.MethodPost, "/as/webhooks/"+app, object{"webhook": hook}, nil)
}
