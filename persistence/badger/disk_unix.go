//go:build unix && !solaris && !aix && !netbsd

package badger

import "golang.org/x/sys/unix"

// diskSpace gives the free and the whole size of the disk that holds path, in bytes.
func diskSpace(path string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}
