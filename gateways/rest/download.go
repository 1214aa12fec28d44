package rest

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"time"
)

const (
	downloadStep  = time.Minute // how long a client may take for one part
	downloadWhole = 4 << 20     // what is made whole at most
)

// download is an answer that is sent while it is made, or whole if it is small, compressed if the client likes that.
type download struct {
	c      *call
	rc     *http.ResponseController
	buffer bytes.Buffer
	gzip   *gzip.Writer
	whole  bool
	paged  bool // a token may follow
	sent   bool // the header is on its way: an error can't change the status any more
}

// newDownload prepares an answer. If it is to be whole, flush sends nothing before finish, unless it gets large.
func newDownload(c *call, mime string, whole bool) *download {
	d := &download{c: c, rc: http.NewResponseController(c.Response()), whole: whole}
	header := c.Response().Header()
	header.Set("Content-Type", mime)
	header.Add("Vary", "Accept-Encoding")
	if acceptsGzip(c.Request().Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		d.gzip, _ = gzip.NewWriterLevel(c.Response(), gzip.BestSpeed) // the level is valid
	}
	return d
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return weight != "q=0" && weight != "q=0.0"
		}
	}
	return false
}

// flush sends what is in the buffer.
func (d *download) flush() error {
	d.whole = d.whole && d.buffer.Len() < downloadWhole
	if d.whole || d.buffer.Len() == 0 {
		return nil
	}
	return d.send()
}

func (d *download) send() error {
	if !d.sent {
		d.sent = true
		if d.paged && !d.whole {
			d.c.Response().Header().Set("Trailer", continuationHeader)
		}
		d.c.Response().WriteHeader(http.StatusOK)
	}
	_ = d.rc.SetWriteDeadline(time.Now().Add(downloadStep)) // without support the server's own limit stays
	var err error
	if d.gzip != nil {
		_, err = d.gzip.Write(d.buffer.Bytes())
	} else {
		_, err = d.c.Response().Write(d.buffer.Bytes())
	}
	d.buffer.Reset()
	return err
}

// finish sends the rest, and the token with which the query goes on.
func (d *download) finish(token string) error {
	if token != "" && d.whole {
		d.c.Response().Header().Set(continuationHeader, token)
	}
	if err := d.send(); err != nil {
		return err
	}
	if token != "" && !d.whole {
		d.c.Response().Header().Set(continuationHeader, token)
	}
	if d.gzip != nil {
		return d.gzip.Close()
	}
	return nil
}

// close takes the headers of the download back if an error is to be answered instead.
func (d *download) close() {
	if !d.sent {
		header := d.c.Response().Header()
		header.Del("Content-Encoding")
		header.Del("Content-Disposition")
	}
}
