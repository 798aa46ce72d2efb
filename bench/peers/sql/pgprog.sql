-- left: what is to be done yet
select count(*) from pgprog_data.queue
