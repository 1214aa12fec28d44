package formatters

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	startTimeout = 10 * time.Second // a machine under load may take long to start a process
	maxKnown     = 4096

	compileTime = raceFactor * 4 * time.Microsecond // of the processor, at most, for a byte of source; some ten times what it should take
)

// workerEnvironment tells a program that does not know what to do as a worker (a test binary, say) to refuse to start workers of its own.
const workerEnvironment = "LORIKEET_FORMATTER_WORKER"

// launcher starts workers. They get a signal when the thread that started them ends, so that thread is kept for as long as the launcher is.
type launcher struct {
	path string
	args []string
	todo chan func()
}

func newLauncher(path string, args []string) *launcher {
	l := &launcher{path: path, args: args, todo: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range l.todo {
			f()
		}
	}()
	return l
}

func (l *launcher) close() { close(l.todo) }

// launch starts a worker and waits until it is confined and ready.
func (l *launcher) launch() (*process, error) {
	p := &process{known: make(map[uint64]bool)}
	p.cmd = exec.Command(l.path, l.args...)
	p.cmd.Env = []string{workerEnvironment + "=1", "MALLOC_ARENA_MAX=1"} // the C library would reserve address space for each thread
	p.cmd.Dir = "/"
	p.cmd.Stderr = &p.stderr
	detach(p.cmd)
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 64<<10)
	result := make(chan error)
	l.todo <- func() { result <- p.cmd.Start() }
	if err := <-result; err != nil {
		return nil, err
	}
	p.timer = time.AfterFunc(startTimeout, p.check)
	p.begin(startTimeout, startTimeout)
	content, err := readFrame(p.out)
	p.end()
	if err == nil && string(content) != hello {
		err = errors.New("it is not a formatter worker")
	}
	if err != nil {
		p.destroy()
		return nil, fmt.Errorf("%w: %s", err, p.stderr.firstLine())
	}
	return p, nil
}

// process is a worker. One call at a time.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr boundedText
	known  map[uint64]bool // scripts that were sent
	frame  []byte          // memory of the last request

	timer   *time.Timer
	mu      sync.Mutex
	calling bool
	began   time.Time
	limit   time.Duration // of processor time
	wall    time.Duration
	used    time.Duration // processor time at the first check of this call; 0: not checked yet
	overdue bool          // killed for it
	gone    bool          // killed, or found dead
}

// errDied: the worker ended during a call.
var errDied = errors.New("the worker died")

// call sends a request and waits for the answer. An error means that the process must be destroyed; death says what it died of.
func (p *process) call(r *request, source string, wall time.Duration) (answer, error) {
	defer p.end()
	for {
		r.new, r.source = !p.known[r.id], source
		p.begin(limits(r, wall))
		p.frame = r.appendTo(p.frame)
		if _, err := p.in.Write(p.frame); err != nil {
			return answer{}, errDied
		}
		content, err := readFrame(p.out)
		if err != nil {
			return answer{}, errDied
		}
		a, err := parseAnswer(content, r.op)
		if err != nil {
			return answer{}, err
		}
		if a.status != statusUnknown {
			p.learn(r.id)
			return a, nil
		}
		if !p.known[r.id] {
			return answer{}, fmt.Errorf("%w: the script was sent and is not known", errFrame)
		}
		delete(p.known, r.id) // it was dropped for others
	}
}

// limits of a request's processor time and wall time. A script that is sent has to be compiled, which takes the longer the longer it is, and is done once in
// a worker: that has a time of its own.
func limits(r *request, wall time.Duration) (time.Duration, time.Duration) {
	if !r.new {
		return r.timeout, wall
	}
	compile := time.Duration(len(r.source)) * compileTime
	return r.timeout + compile, wall + 5*compile
}

func (p *process) learn(id uint64) {
	if len(p.known) >= maxKnown {
		clear(p.known) // the worker says what it has forgotten, and scripts are sent twice at worst
	}
	p.known[id] = true
}

func (p *process) begin(limit, wall time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calling, p.began, p.limit, p.wall, p.used = true, time.Now(), limit, wall, 0
	p.timer.Reset(limit)
}

func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calling = false
	p.timer.Stop()
}

// check kills the worker if a call takes too long. The worker itself stops a script after the limit of processor time; here is for those that can't be
// stopped. Asking the kernel for a process's time at each call would be dear, so it is asked when the limit has gone by on the clock, and once more later.
func (p *process) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.calling || p.gone {
		return
	}
	elapsed := time.Since(p.began)
	if elapsed < p.limit { // of the call before
		p.timer.Reset(p.limit - elapsed)
		return
	}
	now := processorTime(p.cmd.Process.Pid)
	if p.used == 0 {
		p.used = max(now, 1)
	}
	if now-p.used >= p.limit || elapsed >= p.wall {
		p.overdue = true
		p.kill()
		return
	}
	p.timer.Reset(min(max(p.limit/8, 5*time.Millisecond), 50*time.Millisecond))
}

// kill needs mu.
func (p *process) kill() {
	if !p.gone {
		p.gone = true
		_ = p.cmd.Process.Kill() // fails only if it has ended
	}
}

// death is why a worker ended.
type death string

const (
	deathTime    death = "time"
	deathMemory  death = "memory"
	deathUnknown death = "unknown"
)

// destroy ends the process and says what it died of.
func (p *process) destroy() death {
	p.mu.Lock()
	p.calling = false
	p.timer.Stop()
	overdue := p.overdue
	p.kill()
	p.mu.Unlock()
	_ = p.in.Close()
	_ = p.cmd.Wait()
	if overdue {
		return deathTime
	}
	text := p.stderr.String()
	for _, words := range lastWords {
		if strings.Contains(text, words) {
			return deathMemory
		}
	}
	return deathUnknown
}

// lastWords of a Go process that has no more memory, for its heap or a stack; the last are those of the race detector.
var lastWords = []string{"out of memory", "cannot allocate memory", "stack exceeds", "stack overflow", "too many address space collisions"}

// boundedText keeps the beginning of what is written to it.
type boundedText struct {
	mu   sync.Mutex
	text []byte
}

func (t *boundedText) Write(b []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[:min(len(b), most-len(t.text))]...)
	return len(b), nil
}

func (t *boundedText) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// firstLine is for the log.
func (t *boundedText) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(t.String()), "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "?")
}
